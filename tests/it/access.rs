//! Who may call what, over the wire: API keys, scopes, certificates, and what is refused at start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use futures::future::join_all;
use pocketquant::proto::v1::ListSymbolsRequest;
use pocketquant::proto::v1::market_data_client::MarketDataClient;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::engines::Engine;
use crate::processes::{Server, pocketquant};
use crate::support::{TestApp, TestSimulator, demo_data, fact, reason};

/// Runs the binary with these arguments.
async fn run(arguments: &[&str]) -> Output {
    let mut command = pocketquant(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// `pocketquant keys new` into `file`; the key.
async fn new_key(file: &Path, principal: &str, scopes: &str) -> String {
    let file = file.to_str().unwrap();
    let arguments = ["keys", "new", "--principal", principal, "--scopes", scopes, "--file", file];
    let output = run(&arguments).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

/// The head of an answer: its status where it is an error before any message, else OK.
async fn status_of(url: &str, path: &str, key: Option<&str>) -> Status {
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let mut request = client
        .post(format!("{url}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(&[0_u8; 5][..]);
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    let response = request.send().await.unwrap();
    Status::from_header_map(response.headers()).unwrap_or_else(|| Status::ok(""))
}

type KeyedClient = MarketDataClient<
    InterceptedService<Channel, Box<dyn FnMut(Request<()>) -> Result<Request<()>, Status> + Send>>,
>;

fn client(channel: &Channel, key: &str) -> KeyedClient {
    let value: tonic::metadata::MetadataValue<_> = format!("Bearer {key}").parse().unwrap();
    let interceptor = move |mut request: Request<()>| {
        request.metadata_mut().insert("authorization", value.clone());
        Ok(request)
    };
    MarketDataClient::with_interceptor(channel.clone(), Box::new(interceptor))
}

async fn keyed_app(file: &Path) -> TestApp {
    let simulator = TestSimulator::start(demo_data()).await;
    let changed = [("API_KEYS_FILE", file.to_str().unwrap())];
    TestApp::on(Engine::Embedded, &simulator, &changed).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_method_with_a_key_of_each_scope_gives_what_the_printed_table_says() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    let mut keys = Vec::new();
    for scope in ["read", "stream", "sync", "admin"] {
        keys.push(Some(new_key(&file, scope, scope).await));
    }
    keys.push(None);
    let app = keyed_app(&file).await;
    // The printed one, which another test holds against the code.
    let table = include_str!("../../docs/access.md");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert!(rows.len() > 20, "{table}");
    for row in rows {
        let path = format!("/{}", row[0].trim_matches('`'));
        for (key, cell) in keys.iter().zip(&row[1..]) {
            let status = status_of(&app.url, &path, key.as_deref()).await;
            let refused = [Code::Unauthenticated, Code::PermissionDenied].contains(&status.code());
            assert_eq!(refused, *cell == "-", "{path} {cell}: {status:?}");
            match (refused, key) {
                (false, _) => {}
                (true, None) => {
                    assert_eq!(reason(&status), (Code::Unauthenticated, "UNAUTHENTICATED".into()));
                }
                (true, Some(_)) => {
                    assert_eq!(
                        reason(&status),
                        (Code::PermissionDenied, "PERMISSION_DENIED".into())
                    );
                    let scope = fact(&status, "scope").unwrap();
                    // The scope that it names is one that opens it.
                    let column =
                        ["read", "stream", "sync", "admin"].iter().position(|each| *each == scope);
                    assert_eq!(row[column.unwrap() + 1], "yes", "{path} {scope}");
                }
            }
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_wrong_in_any_way_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    let (key, unknown) = (
        new_key(&file, "alice", "read").await,
        new_key(&folder.path().join("others"), "alice", "read").await,
    );
    let app = keyed_app(&file).await;
    let path = "/pocketquant.v1.MarketData/ListSymbols";
    let id = key.split('.').next().unwrap();
    let (guess, long) = (format!("{id}.{}", "A".repeat(43)), format!("{key}{}", "A".repeat(400)));
    for wrong in [unknown.as_str(), &guess, &long, id, "", &key[..key.len() - 1]] {
        let status = status_of(&app.url, path, Some(wrong)).await;
        assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
        assert!(!status.message().contains(id), "{status:?}");
    }
    assert_eq!(status_of(&app.url, path, Some(&key)).await.code(), Code::Ok);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_file_everybody_may_do_everything() {
    let simulator = TestSimulator::start(demo_data()).await;
    let app = TestApp::start(&simulator).await;
    let path = "/pocketquant.v1.System/GetServerInfo";
    for key in [None, Some("whatever.it-is")] {
        assert_eq!(status_of(&app.url, path, key).await.code(), Code::Ok);
    }
    app.stop().await;
}

/// Calls until the answer is `expected`; the test's own timeout is what bounds it.
async fn until(channel: &Channel, key: &str, expected: Code) {
    loop {
        let answer = client(channel, key).list_symbols(ListSymbolsRequest::default()).await;
        let code = answer.map_or_else(|status| status.code(), |_| Code::Ok);
        if code == expected {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_key_file_is_taken_without_a_restart_and_a_broken_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (file, next) = (folder.path().join("keys"), folder.path().join("next"));
    let old = new_key(&file, "alice", "read").await;
    let settings = BTreeMap::from([("API_KEYS_FILE".to_owned(), file.display().to_string())]);
    let server = Server::start(folder.path(), &settings).await;
    let channel = Channel::from_shared(server.url()).unwrap().connect().await.unwrap();
    until(&channel, &old, Code::Ok).await;

    let new = new_key(&file, "alice", "read").await;
    until(&channel, &new, Code::Ok).await;
    until(&channel, &old, Code::Ok).await;

    // Replaced as a whole, as orchestrators and editors do it.
    let lines = std::fs::read_to_string(&file).unwrap();
    let kept = lines.lines().last().unwrap();
    std::fs::write(&next, format!("{kept}\n")).unwrap();
    std::fs::rename(&next, &file).unwrap();
    until(&channel, &old, Code::Unauthenticated).await;
    until(&channel, &new, Code::Ok).await;

    // Somebody puts the key itself there.
    std::fs::write(&file, format!("{old}\n")).unwrap();
    while !server.lines().iter().any(|line| line.contains("the keys stay as they were")) {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    until(&channel, &new, Code::Ok).await;
    assert!(server.lines().iter().any(|line| line.contains("line 1: it must be `ID PRINCIPAL")));
    assert!(!server.lines().iter().any(|line| line.contains(&old)), "{:#?}", server.lines());
    std::fs::remove_file(&file).unwrap();
    while !server.lines().iter().any(|line| line.contains("cannot be read")) {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    until(&channel, &new, Code::Ok).await;
    assert_eq!(server.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_makes_keys_lists_them_and_refuses_a_third() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    let file = path.to_str().unwrap();
    let printed = run(&["keys", "new", "--principal", "bob", "--scopes", "sync,read"]).await;
    let printed = text(&printed.stdout);
    let lines: Vec<&str> = printed.lines().collect();
    let (id, secret) = lines[0].split_once('.').unwrap();
    assert!(lines[1].starts_with(&format!("{id} bob read,sync sha256:")), "{printed}");
    assert!(!lines[1].contains(secret));
    std::fs::write(&path, lines[1]).unwrap();

    new_key(&path, "bob", "admin").await;
    let listed = text(&run(&["keys", "list", "--file", file]).await.stdout);
    assert!(
        listed.contains("read,sync") && listed.contains("admin") && listed.contains(id),
        "{listed}"
    );
    assert!(!listed.contains(secret) && !listed.contains("sha256"), "{listed}");

    let before = std::fs::read_to_string(&path).unwrap();
    let third = run(&["keys", "new", "--principal", "bob", "--file", file]).await;
    assert!(!third.status.success() && third.stdout.is_empty());
    assert!(text(&third.stderr).contains("`bob` has 2 keys already"), "{}", text(&third.stderr));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
}

/// An authority, what it signed for the server and for a client, and a stranger's certificate.
struct Certificates {
    folder: TempDir,
}

impl Certificates {
    fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = |name: &str| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
        };
        let write =
            |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
        let (ours, strange) = (authority("ours"), authority("strange"));
        write("ca.pem", ours.pem());
        for (name, issuer, host) in [
            ("server", &ours, "localhost"),
            ("client", &ours, "client"),
            ("stranger", &strange, "client"),
        ] {
            let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
            let key = KeyPair::generate().unwrap();
            write(&format!("{name}.pem"), params.signed_by(&key, issuer).unwrap().pem());
            write(&format!("{name}.key"), key.serialize_pem());
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn settings(&self, clients: bool) -> BTreeMap<String, String> {
        let mut settings = BTreeMap::from([
            ("TLS_CERT".to_owned(), self.path("server.pem")),
            ("TLS_KEY".to_owned(), self.path("server.key")),
        ]);
        if clients {
            settings.insert("TLS_CLIENT_CA".to_owned(), self.path("ca.pem"));
            // Whoever is known may be anywhere.
            settings.insert("GRPC_ADDR".to_owned(), "0.0.0.0:0".to_owned());
        }
        settings
    }
}

/// `pocketquant health` against `server` with these options.
async fn health(server: &Server, options: &[&str]) -> Output {
    let port = server.address.rsplit(':').next().unwrap();
    let url = format!("https://localhost:{port}");
    run(&[&["health", "--server", &url, "--timeout", "20s"], options].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_binary_speaks_tls_to_those_who_trust_its_authority() {
    let certificates = Certificates::make();
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &certificates.settings(false)).await;
    let trusting = health(&server, &["--tls-ca", &certificates.path("ca.pem")]).await;
    assert!(trusting.status.success(), "{}", text(&trusting.stderr));
    assert!(!health(&server, &[]).await.status.success());
    let plain = run(&["health", "--server", &server.url(), "--timeout", "20s"]).await;
    assert!(!plain.status.success());
    assert_eq!(server.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_client_certificates_only_those_of_the_authority_get_in() {
    let certificates = Certificates::make();
    let folder = tempfile::tempdir().unwrap();
    let mut settings = certificates.settings(true);
    settings.insert("RATE_LIMIT_PER_SECOND".to_owned(), "1".to_owned());
    settings.insert("RATE_LIMIT_BURST".to_owned(), "1".to_owned());
    let server = Server::start(folder.path(), &settings).await;
    let (ca, cert, key) = (
        certificates.path("ca.pem"),
        certificates.path("client.pem"),
        certificates.path("client.key"),
    );
    let known = ["--tls-ca", &ca, "--tls-cert", &cert, "--tls-key", &key];
    let answer = health(&server, &known).await;
    assert!(answer.status.success(), "{}", text(&answer.stderr));
    assert!(!health(&server, &known[..2]).await.status.success());
    let (cert, key) = (certificates.path("stranger.pem"), certificates.path("stranger.key"));
    let strange = ["--tls-ca", &ca, "--tls-cert", &cert, "--tls-key", &key];
    assert!(!health(&server, &strange).await.status.success());

    // Calls count for whom the certificate names.
    let port = server.address.rsplit(':').next().unwrap();
    let url = format!("https://localhost:{port}");
    let refused = loop {
        let arguments = [&["symbols", "--server", &url], &known[..]].concat();
        // Several at once: a token a second comes back.
        let answers = join_all((0..4).map(|_| run(&arguments))).await;
        if let Some(refused) = answers.iter().find(|answer| !answer.status.success()) {
            break text(&refused.stderr);
        }
    };
    assert!(
        refused.contains("RATE_LIMITED") && refused.contains("certificate:client"),
        "{refused}"
    );
    assert_eq!(server.terminate().await, Some(0));
}

/// Starts the server with settings that keep it from starting, and answers what it says.
async fn refused(settings: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut command = pocketquant(&["serve"]);
    command.current_dir(folder.path()).envs(settings.iter().copied());
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    text(&output.stderr)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_server_is_not_exposed_by_accident() {
    let certificates = Certificates::make();
    let (cert, key) = (certificates.path("server.pem"), certificates.path("server.key"));
    let encrypted = [("GRPC_ADDR", "0.0.0.0:0"), ("TLS_CERT", &*cert), ("TLS_KEY", &*key)];
    for open in [&encrypted[..1], &encrypted] {
        let said = refused(open).await;
        for expected in
            ["GRPC_ADDR", "0.0.0.0:0", "API_KEYS_FILE", "TLS_CLIENT_CA", "ALLOW_INSECURE=true"]
        {
            assert!(said.contains(expected), "{said}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let allowed = [("GRPC_ADDR", "0.0.0.0:0"), ("ALLOW_INSECURE", "true")];
    let allowed = allowed.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let server = Server::start(folder.path(), &BTreeMap::from(allowed)).await;
    assert!(server.lines().iter().any(|line| line.contains("calls are not encrypted")));
    assert_eq!(server.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_used_are_named_with_a_remedy() {
    let certificates = Certificates::make();
    let file = |name: &str, content: &str| -> PathBuf {
        let path = certificates.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let (empty, wrong) = (file("empty", "# none\n"), file("wrong", "hush hush\n"));
    let (empty, wrong) = (empty.to_str().unwrap(), wrong.to_str().unwrap());
    let said = refused(&[("API_KEYS_FILE", empty)]).await;
    assert!(said.contains("pocketquant keys new --file") && said.contains(empty), "{said}");
    let said = refused(&[("API_KEYS_FILE", wrong)]).await;
    assert!(said.contains("line 1") && said.contains(wrong) && !said.contains("hush"), "{said}");

    let path = |name: &str| certificates.path(name);
    let (cert, key, other) = (path("server.pem"), path("server.key"), path("client.key"));
    let said = refused(&[("TLS_CERT", &cert), ("TLS_KEY", &other)]).await;
    assert!(said.contains("TLS_KEY") && said.contains(&other), "{said}");
    let said = refused(&[("TLS_CERT", wrong), ("TLS_KEY", &key)]).await;
    assert!(said.contains("TLS_CERT") && said.contains(wrong), "{said}");
    let said = refused(&[("TLS_CERT", &cert), ("TLS_KEY", &key), ("TLS_CLIENT_CA", wrong)]).await;
    assert!(said.contains("TLS_CLIENT_CA") && said.contains(wrong), "{said}");
}
