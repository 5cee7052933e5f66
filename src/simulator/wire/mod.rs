//! The protocol's grammar: frames, requests, answers, resolutions. Pure.

mod answer;
mod frame;
mod request;
mod resolution;

pub(super) use answer::{Answer, node};
pub(super) use frame::{Payload, append_frame, decode};
pub(super) use request::Request;
pub(super) use resolution::{Resolution, read_resolution};
