//! What the provider's socket may bring: frames, and the messages in them.

use super::frame::{self, Frames, Payload};
use super::message::{self, ChartEvent, Incoming};
use crate::fuzz::hold;

fn text(input: &[u8]) -> String {
    String::from_utf8_lossy(input).into_owned()
}

#[test]
fn frames() {
    hold!("frames", |input: &[u8]| {
        let wire = text(input);
        let read: Vec<_> = frame::decode(&wire).collect();
        // Each frame takes some of the text, and the first error ends it.
        assert!(read.len() <= wire.len());
        let errors = read.iter().filter(|frame| frame.is_err()).count();
        assert!(errors == 0 || (errors == 1 && read.last().unwrap().is_err()));
        let payloads: Vec<_> = read.into_iter().flatten().collect();
        let again: String = payloads.iter().map(|payload| wire_of(*payload)).collect();
        assert_eq!(frame::decode(&again).collect::<Result<Vec<_>, _>>().unwrap(), payloads);
        // Whatever the text is, it can be a payload.
        let framed = frame::encode(&wire);
        let mut back: Frames<'_> = frame::decode(&framed);
        match back.next().unwrap().unwrap() {
            Payload::Json(json) => assert_eq!(json, wire),
            Payload::Heartbeat(whole) => assert_eq!(whole, framed),
        }
        assert_eq!(back.next(), None);
    });
}

fn wire_of(payload: Payload<'_>) -> String {
    match payload {
        Payload::Json(json) => frame::encode(json),
        Payload::Heartbeat(whole) => whole.to_owned(),
    }
}

#[test]
fn messages() {
    hold!("messages", |input: &[u8]| {
        let json = text(input);
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&json).is_ok();
        let history = message::parse(&json);
        assert!(is_json || history.is_err(), "{json}");
        if let Ok(Incoming::Chart { event: ChartEvent::Bars { bars, timeless }, .. }) = &history {
            // A row takes at least its braces.
            assert!(bars.len() + timeless <= json.len() / 2);
        }
        // Whatever the text is, a command can carry it.
        let command = message::command("m", [&json]);
        let mut sent = frame::decode(&command);
        let Some(Ok(Payload::Json(sent))) = sent.next() else { panic!("{command}") };
        let sent: serde_json::Value = serde_json::from_str(sent).unwrap();
        assert_eq!(sent, serde_json::json!({"m": "m", "p": [json]}));
    });
}
