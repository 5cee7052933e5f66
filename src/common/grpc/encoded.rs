//! A message that is encoded already: what many streams send is encoded once.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::encoding::{DecodeContext, WireType, skip_field};
use prost::{DecodeError, Message};

/// The bytes of a message, for any number of receivers. Cheap to clone.
///
/// A part of a message is one too, and parts in a row are the message that has the fields of all.
/// It is only sent: reading one keeps nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    shared: Bytes,
    own: Bytes,
}

impl Encoded {
    /// All of `message`.
    pub fn of(message: &impl Message) -> Self {
        Self::shared(message.encode_to_vec().into())
    }

    /// What `bytes` say, to everybody.
    pub const fn shared(bytes: Bytes) -> Self {
        Self { shared: bytes, own: Bytes::new() }
    }

    /// The same, and the fields of `message`, to one receiver.
    #[must_use]
    pub fn and(self, message: &impl Message) -> Self {
        let mut own = BytesMut::with_capacity(self.own.len() + message.encoded_len());
        own.put_slice(&self.own);
        message.encode_raw(&mut own);
        Self { shared: self.shared, own: own.freeze() }
    }
}

impl Message for Encoded {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        buffer.put_slice(&self.shared);
        buffer.put_slice(&self.own);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        skip_field(wire_type, tag, buffer, context)
    }

    fn encoded_len(&self) -> usize {
        self.shared.len() + self.own.len()
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::Status;

    use super::*;

    #[test]
    fn parts_in_a_row_are_the_message_that_has_the_fields_of_all() {
        let code = Status { code: 5, ..Status::default() };
        let message = Status { message: "gone".to_owned(), ..Status::default() };
        let encoded = Encoded::of(&code).and(&message).encode_to_vec();
        let whole = Status { code: 5, message: "gone".to_owned(), details: Vec::new() };
        assert_eq!(Status::decode(encoded.as_slice()), Ok(whole));
    }
}
