//! HTTP/2 by hand: what no library would send.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;

pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// RFC 9113, section 7.
pub const ENHANCE_YOUR_CALM: u32 = 11;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap().to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// Why a connection ends, of a GOAWAY.
    pub fn reason(&self) -> u32 {
        u32::from_be_bytes(self.payload[4..8].try_into().unwrap())
    }

    /// The value of a setting, of a SETTINGS.
    pub fn setting(&self, id: u16) -> Option<u32> {
        let settings = self.payload.chunks_exact(6);
        let mut values = settings.filter(|each| each[..2] == id.to_be_bytes());
        values.next().map(|each| u32::from_be_bytes(each[2..].try_into().unwrap()))
    }
}

/// A header as HPACK writes it without any table.
pub fn header(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        bytes.push(u8::try_from(text.len()).ok().filter(|length| *length < 127).unwrap());
        bytes.extend(text.as_bytes());
    }
    bytes
}

/// The headers of a gRPC call.
pub fn call(path: &str) -> Vec<u8> {
    let headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "test"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    headers.into_iter().flat_map(|(name, value)| header(name, value)).collect()
}

/// A whole call of `path`, with an empty message.
pub fn whole(path: &str, stream: u32) -> Vec<u8> {
    let mut bytes = Frame::new(HEADERS, END_HEADERS, stream, call(path)).bytes();
    bytes.extend(Frame::new(DATA, END_STREAM, stream, [0; 5]).bytes());
    bytes
}

/// A connection that sends bytes and reads frames.
pub struct Raw<IO = TcpStream>(pub IO);

impl Raw {
    pub async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    /// Has said that it speaks HTTP/2.
    pub async fn greeted(address: SocketAddr) -> Self {
        let mut raw = Self::connect(address).await;
        raw.send(PREFACE).await;
        raw.send(&Frame::new(SETTINGS, 0, 0, []).bytes()).await;
        raw
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Raw<IO> {
    /// Whether it was taken: the other side may be gone.
    pub async fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok()
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        assert!(self.try_send(bytes).await, "the connection is closed");
    }

    /// The next frame; nothing when the connection is closed.
    pub async fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.0.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// All frames until it is closed.
    pub async fn until_closed(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.frame().await {
            frames.push(frame);
        }
        frames
    }

    /// The next frame of this kind; PINGs are answered on the way.
    pub async fn next(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.frame().await?;
            if frame.kind == kind {
                return Some(frame);
            }
            if frame.kind == PING && frame.flags & ACK == 0 {
                self.send(&Frame::new(PING, ACK, 0, frame.payload).bytes()).await;
            }
        }
    }
}
