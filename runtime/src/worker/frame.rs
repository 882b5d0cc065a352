//! Length-prefixed messages on a socket pair.

use std::io::{self, ErrorKind, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest message that a length can announce.
pub(super) const MOST_BYTES: usize = 1 << 30;

/// How much is read at once.
const CHUNK: usize = 64 * 1024;

/// A message as it goes over the wire.
pub(super) fn framed(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let body = rmp_serde::to_vec_named(message).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut frame = Vec::with_capacity(body.len() + 4);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// Writes one message.
pub(super) fn write(stream: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    stream.write_all(&framed(message)?)?;
    stream.flush()
}

/// Collects a message that may arrive in pieces.
pub(super) struct Reader {
    received: Vec<u8>,
    chunk: Vec<u8>,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            received: Vec::new(),
            chunk: vec![0; CHUNK],
        }
    }
}

/// What one attempt to read brought.
pub(super) enum Received<T> {
    Message(T),
    /// Nothing whole yet: the stream's time-out passed.
    NotYet,
    /// The other side is gone.
    Closed,
}

impl Reader {
    /// Reads once, and takes the message if it is whole now. `most` bounds its size in bytes.
    ///
    /// Only once: a peer that sends a byte now and then must not keep its reader from looking at the clock.
    pub(super) fn read<T: DeserializeOwned>(&mut self, stream: &mut impl Read, most: usize) -> io::Result<Received<T>> {
        if let Some(message) = self.take(most)? {
            return Ok(Received::Message(message));
        }
        match stream.read(&mut self.chunk) {
            Ok(0) => return Ok(Received::Closed),
            Ok(count) => self.received.extend(self.chunk.iter().take(count)),
            Err(error) if is_time_out(&error) || error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(Received::Closed),
            Err(error) => return Err(error),
        }
        Ok(self.take(most)?.map_or(Received::NotYet, Received::Message))
    }

    /// Whether nothing of a message is there that was not taken.
    pub(super) fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    fn take<T: DeserializeOwned>(&mut self, most: usize) -> io::Result<Option<T>> {
        let Some((prefix, rest)) = self.received.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*prefix) as usize;
        if length > most.min(MOST_BYTES) {
            return Err(io::Error::other("a message is too large"));
        }
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        let message = rmp_serde::from_slice(body).map_err(io::Error::other)?;
        self.received.drain(..4 + length);
        self.received.shrink_to(CHUNK);
        Ok(Some(message))
    }
}

fn is_time_out(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out one byte per read, as a slow peer does.
    struct Trickle(std::vec::IntoIter<u8>);

    impl Read for Trickle {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match (self.0.next(), buffer.first_mut()) {
                (Some(byte), Some(slot)) => {
                    *slot = byte;
                    Ok(1)
                }
                _ => Ok(0),
            }
        }
    }

    #[test]
    fn messages_that_arrive_byte_by_byte_are_read_whole_and_in_order() {
        let mut sent = Vec::new();
        write(&mut sent, &"one").unwrap();
        write(&mut sent, &"two").unwrap();
        let mut stream = Trickle(sent.into_iter());
        let mut reader = Reader::default();
        let mut received = Vec::new();
        loop {
            match reader.read::<String>(&mut stream, MOST_BYTES).unwrap() {
                Received::Message(text) => received.push(text),
                Received::NotYet => {}
                Received::Closed => break,
            }
        }
        assert_eq!(received, ["one", "two"]);
    }

    #[test]
    fn one_read_reads_once() {
        let mut sent = Vec::new();
        write(&mut sent, &"one").unwrap();
        let mut stream = Trickle(sent.into_iter());
        let first = Reader::default().read::<String>(&mut stream, MOST_BYTES).unwrap();
        assert!(matches!(first, Received::NotYet));
    }

    #[test]
    fn a_message_over_the_limit_is_an_error() {
        let mut sent = Vec::new();
        write(&mut sent, &"0123456789").unwrap();
        let whole = || io::Cursor::new(sent.clone());
        assert!(matches!(
            Reader::default().read::<String>(&mut whole(), 11).unwrap(),
            Received::Message(_)
        ));
        assert!(Reader::default().read::<String>(&mut whole(), 10).is_err());
    }

    #[test]
    fn garbage_is_an_error_and_not_a_message() {
        let mut garbage = Trickle(vec![3, 0, 0, 0, 0xc1, 0xc1, 0xc1].into_iter());
        let mut reader = Reader::default();
        let ended = (0..8)
            .map(|_| reader.read::<String>(&mut garbage, MOST_BYTES))
            .find(Result::is_err);
        assert!(ended.is_some());
        let mut huge = io::Cursor::new(vec![0xff, 0xff, 0xff, 0xff, 0]);
        assert!(Reader::default().read::<String>(&mut huge, MOST_BYTES).is_err());
    }
}
