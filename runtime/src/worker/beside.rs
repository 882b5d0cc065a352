//! Bytes on a socket, with a descriptor beside them.

use std::io::{self, IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

/// Sends bytes, on a stream maybe not all of them, and says how many.
pub(super) fn send(end: impl AsFd, bytes: &[u8], file: Option<BorrowedFd<'_>>) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let files: Vec<_> = file.into_iter().collect();
    if !files.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(rustix::io::Errno::IO);
    }
    sendmsg(end, &[IoSlice::new(bytes)], &mut beside, SendFlags::NOSIGNAL)
}

/// Receives bytes, none where the other end is gone, and what came beside them.
pub(super) fn receive(end: impl AsFd, bytes: &mut [u8]) -> rustix::io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(
            &end,
            &mut [IoSliceMut::new(bytes)],
            &mut beside,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    let file = beside.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    Ok((received.bytes, file))
}

/// A stream that keeps the last descriptor that came on it.
pub(super) struct Line {
    pub(super) stream: Arc<UnixStream>,
    came: Option<OwnedFd>,
}

impl Line {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self {
            stream: Arc::new(stream),
            came: None,
        }
    }

    /// What came beside the bytes that were read so far, once.
    pub(super) fn take_file(&mut self) -> Option<OwnedFd> {
        self.came.take()
    }
}

impl Read for Line {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let (count, file) = receive(&self.stream, bytes)?;
        if file.is_some() {
            self.came = file;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn a_descriptor_arrives_with_the_first_byte_that_it_was_sent_with() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut line = Line::new(theirs);
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"whose", 0).unwrap();
        (&ours).write_all(b"before").unwrap();
        assert_eq!(send(&ours, b"a", Some(file.as_fd())).unwrap(), 1);
        (&ours).write_all(b"after").unwrap();
        let mut bytes = [0; 6];
        line.read_exact(&mut bytes).unwrap();
        assert!(line.take_file().is_none());
        line.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"aafter");
        let mut there = [0; 5];
        std::fs::File::from(line.take_file().unwrap())
            .read_exact_at(&mut there, 0)
            .unwrap();
        assert_eq!(&there, b"whose");
        assert!(line.take_file().is_none());
    }
}
