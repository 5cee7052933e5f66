//! Real servers: a MongoDB and a Redis shared by all tests, and private ones to break.
//!
//! Each runs under a small shell that ends it as soon as the test binary is gone, however it
//! went. Where the programs are is said by `scripts/test`.

use std::env;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mongodb::bson::doc;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep, timeout};

/// Numbered databases of a Redis that tests start.
const REDIS_DATABASES: usize = 1_000;
/// How long a server may take to start.
const START: Duration = Duration::from_mins(1);

/// Starts its arguments, says their process id, and ends them when its input ends.
const KEEPER: &str = r#"
clean=$1 log=$2
shift 2
"$@" >"$log" 2>&1 </dev/null &
echo $!
read -r _
kill -9 $! 2>/dev/null
wait 2>/dev/null
if [ -n "$clean" ]; then rm -rf "$clean"; fi
"#;

/// A running process; ended when dropped.
struct Process {
    keeper: Child,
    pid: String,
}

impl Process {
    /// `clean` is removed when it ends.
    fn start(program: &str, arguments: &[String], folder: &Path, clean: Option<&Path>) -> Self {
        let mut keeper = Command::new("bash")
            .args(["-c", KEEPER, "keeper"])
            .arg(clean.unwrap_or(Path::new("")))
            .arg(folder.join("log"))
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("bash is there");
        let mut pid = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut pid).unwrap();
        Self { keeper, pid: pid.trim().to_owned() }
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.pid]).status().unwrap();
        assert!(sent.success(), "{signal} {}", self.pid);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        self.keeper.wait().unwrap();
    }
}

/// A server of a test's own.
pub struct Server {
    kind: Kind,
    port: u16,
    process: Option<Process>,
    folder: PathBuf,
    _temporary: Option<TempDir>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    MongoDb,
    ReplicaSet,
    Redis,
}

/// The name of the replica set.
const SET: &str = "rs0";

impl Server {
    /// A MongoDB to break.
    pub async fn mongodb() -> Self {
        Self::private(Kind::MongoDb).await
    }

    /// A MongoDB of one member that is a replica set, and its primary.
    pub async fn replica_set() -> Self {
        let server = Self::private(Kind::ReplicaSet).await;
        let host = format!("127.0.0.1:{}", server.port);
        let config = doc! { "_id": SET, "members": [{ "_id": 0, "host": host }] };
        let admin = server.admin().await;
        admin.run_command(doc! { "replSetInitiate": config }).await.unwrap();
        server.until_primary().await;
        server
    }

    /// It is no primary any more, for a few seconds; its connections are cut.
    pub async fn step_down(&self) {
        let command = doc! { "replSetStepDown": 5, "secondaryCatchUpPeriodSecs": 0, "force": true };
        // It may end our own connection before it has answered.
        drop(self.admin().await.run_command(command).await);
    }

    pub async fn until_primary(&self) {
        let admin = self.admin().await;
        let primary = async {
            loop {
                let said = admin.run_command(doc! { "hello": 1 }).await.unwrap_or_default();
                if said.get_bool("isWritablePrimary").unwrap_or_default() {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(START, primary).await.expect("there is a primary");
    }

    async fn admin(&self) -> mongodb::Database {
        let url = format!("mongodb://127.0.0.1:{}/?directConnection=true", self.port);
        mongodb::Client::with_uri_str(url).await.unwrap().database("admin")
    }

    /// A Redis to break.
    pub async fn redis() -> Self {
        Self::private(Kind::Redis).await
    }

    pub fn url(&self) -> String {
        self.kind.url(self.port)
    }

    /// Ends it at once, as if its machine had failed.
    pub fn crash(&mut self) {
        self.process = None;
    }

    /// Starts it again on its port, with what it had stored.
    pub async fn restart(&mut self) {
        self.process = None;
        self.start(None);
        self.kind.ready(self.port).await;
    }

    /// It accepts connections and answers nothing.
    pub fn freeze(&self) {
        self.process.as_ref().unwrap().signal("-STOP");
    }

    pub fn thaw(&self) {
        self.process.as_ref().unwrap().signal("-CONT");
    }

    async fn private(kind: Kind) -> Self {
        let temporary = TempDir::new().unwrap();
        let folder = temporary.path().to_owned();
        let mut server =
            Self { kind, port: free_port(), process: None, folder, _temporary: Some(temporary) };
        server.start(None);
        kind.ready(server.port).await;
        server
    }

    /// Lives as long as the test binary.
    async fn shared(kind: Kind) -> Self {
        let folder = TempDir::new().unwrap().keep();
        let mut server = Self {
            kind,
            port: free_port(),
            process: None,
            folder: folder.clone(),
            _temporary: None,
        };
        server.start(Some(&folder));
        kind.ready(server.port).await;
        server
    }

    fn start(&mut self, clean: Option<&Path>) {
        let program = self.kind.program();
        let arguments = self.kind.arguments(self.port, &self.folder);
        self.process = Some(Process::start(&program, &arguments, &self.folder, clean));
    }
}

impl Kind {
    fn url(self, port: u16) -> String {
        match self {
            Self::MongoDb => format!("mongodb://127.0.0.1:{port}"),
            Self::ReplicaSet => format!("mongodb://127.0.0.1:{port}/?replicaSet={SET}"),
            Self::Redis => format!("redis://127.0.0.1:{port}"),
        }
    }

    fn program(self) -> String {
        let name = match self {
            Self::MongoDb | Self::ReplicaSet => "TEST_MONGOD",
            Self::Redis => "TEST_REDIS_SERVER",
        };
        env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run scripts/test"))
    }

    fn arguments(self, port: u16, folder: &Path) -> Vec<String> {
        let folder = folder.to_str().unwrap();
        let text = match self {
            Self::ReplicaSet => {
                format!(
                    "{} --replSet {SET}",
                    Self::MongoDb.arguments(port, &PathBuf::from(folder)).join(" ")
                )
            }
            Self::MongoDb => format!(
                "--dbpath {folder} --port {port} --bind_ip 127.0.0.1 --nounixsocket \
                 --wiredTigerCacheSizeGB 0.25 --setParameter diagnosticDataCollectionEnabled=false"
            ),
            Self::Redis => {
                format!(
                    "--port {port} --bind 127.0.0.1 --dir {folder} --appendonly no --save '' \
                     --databases {REDIS_DATABASES}"
                )
            }
        };
        // An empty word stands for "never save".
        text.split_whitespace().map(|word| word.replace("''", "")).collect()
    }

    /// Waits until it answers.
    async fn ready(self, port: u16) {
        let deadline = Instant::now() + START;
        while !self.answers(port).await {
            assert!(Instant::now() < deadline, "{self:?} did not start on port {port}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn answers(self, port: u16) -> bool {
        match self {
            Self::MongoDb | Self::ReplicaSet => {
                let direct = "directConnection=true&serverSelectionTimeoutMS=1000";
                let url = format!("mongodb://127.0.0.1:{port}/?{direct}");
                let client = mongodb::Client::with_uri_str(url).await.unwrap();
                let ping = doc! { "ping": 1 };
                client.database("admin").run_command(ping).await.is_ok()
            }
            Self::Redis => {
                let ping = async {
                    let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
                    socket.write_all(b"PING\r\n").await?;
                    let mut answer = [0; 5];
                    socket.read_exact(&mut answer).await?;
                    std::io::Result::Ok(&answer == b"+PONG")
                };
                matches!(timeout(Duration::from_secs(1), ping).await, Ok(Ok(true)))
            }
        }
    }
}

/// The address of the MongoDB that tests share; each uses a database of its own.
pub async fn mongodb_url() -> String {
    static SHARED: OnceCell<Server> = OnceCell::const_new();
    if let Ok(url) = env::var("TEST_MONGODB_URL") {
        return url;
    }
    SHARED.get_or_init(|| Server::shared(Kind::MongoDb)).await.url()
}

/// The address of the Redis that tests share; each uses keys of its own.
pub async fn redis_url() -> String {
    static SHARED: OnceCell<Server> = OnceCell::const_new();
    if let Ok(url) = env::var("TEST_REDIS_URL") {
        return url;
    }
    SHARED.get_or_init(|| Server::shared(Kind::Redis)).await.url()
}

/// A numbered database of the Redis that tests share, for a service of its own: two services on
/// different databases must not share a cache. One that others set up has 16 by default.
pub async fn own_redis_url() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed) % REDIS_DATABASES;
    let number = if env::var_os("TEST_REDIS_URL").is_some() { number % 16 } else { number };
    let url = redis_url().await;
    format!("{}/{number}", url.trim_end_matches('/'))
}

/// A port that nobody gets by chance as long as the test binary lives: who asks for it by its
/// number does, and as long as nobody listens there, connections are refused.
pub fn free_port() -> u16 {
    static HELD: Mutex<Vec<TcpSocket>> = Mutex::new(Vec::new());
    let socket = TcpSocket::new_v4().unwrap();
    // Servers set it, too, and so may share what is bound and does not listen.
    socket.set_reuseaddr(true).unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = socket.local_addr().unwrap().port();
    HELD.lock().unwrap().push(socket);
    port
}
