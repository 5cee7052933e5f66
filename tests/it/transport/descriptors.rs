//! The process may open few files, and somebody opens many connections.

use std::collections::BTreeMap;
use std::time::Duration;

use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::system_client::SystemClient;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

use super::PATIENCE;
use crate::processes::Server;

/// How long the process is watched.
const WATCHED: Duration = Duration::from_secs(3);

/// How long the process has computed, in seconds: fields 14 and 15 of `/proc/PID/stat`.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<&str> = fields.split(' ').collect();
    [fields[11], fields[12]].map(|ticks| ticks.parse::<f64>().unwrap()).iter().sum::<f64>() / 100.0
}

fn open_files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

async fn call(address: &str) -> Result<(), String> {
    let endpoint: Endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
    let endpoint = endpoint.timeout(Duration::from_secs(1)).connect_timeout(Duration::from_secs(1));
    let channel = endpoint.connect().await.map_err(|error| error.to_string())?;
    let mut client = SystemClient::new(channel);
    let answer = client.get_health(pb::GetHealthRequest {}).await;
    answer.map(drop).map_err(|status| status.to_string())
}

/// With `limit` files: `at_rest` is what may be open by then, `flooded` what may be open later.
async fn survives(
    limit: usize,
    at_rest: std::ops::Range<usize>,
    flooded: std::ops::RangeInclusive<usize>,
) {
    let folder = tempfile::tempdir().unwrap();
    let shell = format!("ulimit -n {limit}; exec \"$0\" serve");
    let settings = BTreeMap::from([("FEED_AUTOSTART".to_owned(), "false".to_owned())]);
    let server = Server::start_in_shell(&shell, folder.path(), &settings).await;
    let pid = server.pid();
    assert!(at_rest.contains(&open_files(pid)), "{limit}: {} are open", open_files(pid));
    call(&server.address).await.unwrap();

    let mut sockets = Vec::new();
    for _ in 0..200 {
        let connected = tokio::time::timeout(WATCHED, TcpStream::connect(&server.address)).await;
        sockets.extend(connected.ok().and_then(Result::ok));
    }
    assert!(sockets.len() > 100, "the kernel takes them, whether the process does or not");
    assert!(flooded.contains(&open_files(pid)), "{limit}: {} are open", open_files(pid));
    let before = cpu_seconds(pid);
    tokio::time::sleep(WATCHED).await;
    let spent = cpu_seconds(pid) - before;
    assert!(spent < WATCHED.as_secs_f64() / 3.0, "it spins: {spent} s of {WATCHED:?}");

    drop(sockets);
    let back = async {
        while call(&server.address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.expect("service returns");
    assert_eq!(server.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_leave_files_for_everything_else() {
    survives(64, 0..30, 32..=62).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_free_descriptor_it_waits_and_does_not_spin() {
    // So few that half of them is more than are left.
    survives(30, 16..29, 28..=32).await;
}
