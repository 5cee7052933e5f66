//! Signatures, verified by somebody else's library.

use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use super::receiver::Received;
use super::{create, quick, scene, sync};
use crate::engines::Engine;
use crate::python::python;

/// Reads `{secret, headers, body}` a line; says `ok` or why not.
const VERIFY: &str = "
import json, sys
from standardwebhooks import Webhook, WebhookVerificationError
for line in sys.stdin:
    message = json.loads(line)
    try:
        Webhook(message['secret']).verify(message['body'], message['headers'])
        print('ok')
    except WebhookVerificationError as error:
        print(error)
";

/// What the Python package `standardwebhooks` says of each message.
async fn verdicts(messages: &[(Received, &str)]) -> Vec<String> {
    let line = |(message, secret): &(Received, &str)| {
        let headers = json!({
            "webhook-id": message.id, "webhook-timestamp": message.timestamp,
            "webhook-signature": message.signature,
        });
        let body = String::from_utf8(message.body.clone()).unwrap();
        json!({ "secret": secret, "headers": headers, "body": body }).to_string()
    };
    let lines: Vec<String> = messages.iter().map(line).collect();
    let lines = lines.join("\n") + "\n";
    let mut child = python("python3", None)
        .args(["-c", VERIFY])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Python package standardwebhooks: run scripts/test"]
async fn a_library_of_standard_webhooks_verifies_our_signatures() {
    let (_simulator, mut app, receiver) =
        scene(Engine::Embedded, quick(2, Duration::from_secs(15))).await;
    let made = create(&mut app, &receiver.url(), &["sync.completed"]).await.secret;
    sync(&mut app).await;
    let message = receiver.until(1).await.remove(0);
    let forged = Received { body: b"{}".to_vec(), ..message.clone() };
    let other = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let verdicts = verdicts(&[(message.clone(), &made), (forged, &made), (message, other)]).await;
    assert_eq!(verdicts[0], "ok");
    assert!(verdicts[1..].iter().all(|verdict| verdict != "ok"), "{verdicts:?}");
    assert_eq!(verdicts.len(), 3);
}
