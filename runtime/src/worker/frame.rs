//! Length-prefixed messages on a socket pair.

use std::io::{self, ErrorKind, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest message either side accepts. A guest's result is far below it: bounds cap that.
const MOST_BYTES: usize = 1 << 30;

/// How much is read at once.
const CHUNK: usize = 64 * 1024;

/// Writes one message.
pub(super) fn write(stream: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let body = rmp_serde::to_vec_named(message).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut frame = Vec::with_capacity(body.len() + 4);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&body);
    stream.write_all(&frame)?;
    stream.flush()
}

/// Collects a message that may arrive in pieces.
#[derive(Default)]
pub(super) struct Reader {
    received: Vec<u8>,
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
    /// Reads until a message is whole, the stream's time-out passes, or the other side is gone.
    pub(super) fn read<T: DeserializeOwned>(&mut self, stream: &mut impl Read) -> io::Result<Received<T>> {
        let mut chunk = vec![0; CHUNK];
        loop {
            if let Some(body) = self.take_body()? {
                return rmp_serde::from_slice(&body)
                    .map(Received::Message)
                    .map_err(io::Error::other);
            }
            match stream.read(&mut chunk) {
                Ok(0) => return Ok(Received::Closed),
                Ok(count) => self.received.extend(chunk.iter().take(count)),
                Err(error) if is_time_out(&error) => return Ok(Received::NotYet),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(Received::Closed),
                Err(error) => return Err(error),
            }
        }
    }

    fn take_body(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some((prefix, rest)) = self.received.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*prefix) as usize;
        if length > MOST_BYTES {
            return Err(io::Error::other("a message is too large"));
        }
        let Some(body) = rest.get(..length).map(<[u8]>::to_vec) else {
            return Ok(None);
        };
        self.received.drain(..4 + length);
        Ok(Some(body))
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
        for expected in ["one", "two"] {
            match reader.read::<String>(&mut stream).unwrap() {
                Received::Message(text) => assert_eq!(text, expected),
                _ => panic!("no message"),
            }
        }
        assert!(matches!(reader.read::<String>(&mut stream).unwrap(), Received::Closed));
    }

    #[test]
    fn garbage_is_an_error_and_not_a_message() {
        let mut garbage = Trickle(vec![3, 0, 0, 0, 0xc1, 0xc1, 0xc1].into_iter());
        assert!(Reader::default().read::<String>(&mut garbage).is_err());
        let mut huge = Trickle(vec![0xff, 0xff, 0xff, 0xff, 0].into_iter());
        assert!(Reader::default().read::<String>(&mut huge).is_err());
    }
}
