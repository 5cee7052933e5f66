//! Somebody whom events are sent to, and who does not always behave.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{sleep, timeout};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use super::PATIENCE;

/// A message that came.
#[derive(Clone, Debug)]
pub struct Received {
    pub id: String,
    pub timestamp: String,
    pub signature: String,
    pub body: Vec<u8>,
}

impl Received {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn event_type(&self) -> String {
        self.json()["type"].as_str().unwrap().to_owned()
    }
}

/// Answers as it is told, and with 204 where it is told nothing.
pub struct Receiver {
    server: MockServer,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    script: Mutex<VecDeque<ResponseTemplate>>,
    received: Mutex<Vec<Received>>,
}

impl Receiver {
    pub async fn start() -> Self {
        let shared = Arc::<Shared>::default();
        let server = MockServer::builder().disable_request_recording().start().await;
        let answers = Answers(Arc::clone(&shared));
        Mock::given(any()).respond_with(answers).mount(&server).await;
        Self { server, shared }
    }

    pub fn url(&self) -> String {
        format!("{}/hook?token=t0ken", self.server.uri())
    }

    /// Answers so, once, after what it was told before.
    pub fn then(&self, answer: ResponseTemplate) {
        self.shared.script.lock().unwrap().push_back(answer);
    }

    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    /// Waits for so many messages.
    pub async fn until(&self, count: usize) -> Vec<Received> {
        let came = async {
            while self.shared.received.lock().unwrap().len() < count {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = timeout(PATIENCE, came).await;
        assert!(waited.is_ok(), "{count} messages did not come: {:?}", self.received());
        self.received()
    }
}

struct Answers(Arc<Shared>);

impl Respond for Answers {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let header = |name: &str| request.headers[name].to_str().unwrap().to_owned();
        self.0.received.lock().unwrap().push(Received {
            id: header("webhook-id"),
            timestamp: header("webhook-timestamp"),
            signature: header("webhook-signature"),
            body: request.body.clone(),
        });
        let told = self.0.script.lock().unwrap().pop_front();
        told.unwrap_or_else(|| ResponseTemplate::new(204))
    }
}
