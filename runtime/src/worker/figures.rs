//! What the kernel says of a worker's memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Most often all of a process's status: whoever is in many groups has a longer one.
const STATUS: usize = 4096;

/// A process's files in `/proc`: they are of that process even where its number is another's by now.
pub(super) struct Figures {
    status: File,
    /// `None` where the kernel does not offer it.
    clear_refs: Option<File>,
}

impl Figures {
    pub(super) fn of(process: u32) -> io::Result<Self> {
        let folder = Path::new("/proc").join(process.to_string());
        Ok(Self {
            status: File::open(folder.join("status"))?,
            clear_refs: File::options().write(true).open(folder.join("clear_refs")).ok(),
        })
    }

    /// A figure in bytes; 0 where it cannot be read.
    pub(super) fn bytes(&self, name: &str) -> u64 {
        let mut status = vec![0; STATUS];
        loop {
            let count = self.status.read_at(&mut status, 0).unwrap_or(0);
            if count < status.len() {
                status.truncate(count);
                return field(&String::from_utf8_lossy(&status), name).unwrap_or(0);
            }
            status.resize(count * 2, 0);
        }
    }

    /// Makes `VmHWM` start anew, so that one guest's peak is not the next one's. Where the kernel does not offer it, the peak is
    /// that of the worker's life.
    pub(super) fn forget_peak(&self) {
        if let Some(file) = &self.clear_refs {
            file.write_at(b"5", 0).unwrap_or_default();
        }
    }
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_figures_are_read_by_name() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t      16 kB\n";
        assert_eq!(field(status, "VmHWM"), Some(2048 * 1024));
        assert_eq!(field(status, "VmRSS"), Some(16 * 1024));
        assert_eq!(field(status, "Vm"), None);
    }
}
