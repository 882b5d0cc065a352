//! Machines that are set up otherwise than others.

use std::fs;

use crate::folder::{Folder, with_mounts};

/// A file of time zones, nine hours east of Greenwich: <https://www.rfc-editor.org/rfc/rfc9636>
fn in_tokyo() -> Vec<u8> {
    let one_type_of_time = [0_u32, 0, 0, 0, 1, 4].map(u32::to_be_bytes).concat();
    let header = [b"TZif2".as_slice(), &[0; 15], &one_type_of_time].concat();
    let part = [header.as_slice(), &32_400_u32.to_be_bytes(), &[0, 0], b"JST\0"].concat();
    [part.as_slice(), &part, b"\nJST-9\n"].concat()
}

#[test]
fn a_guest_is_not_told_where_its_host_is() {
    let folder = Folder::new();
    fs::write(folder.path("tokyo"), in_tokyo()).unwrap();
    fs::write(folder.path("guest.sql"), "select datetime('2026-01-01', 'localtime')").unwrap();
    let ran = with_mounts(
        &folder,
        "mount -t tmpfs none /etc && cp tokyo /etc/localtime
         $0 run --profile walkin guest.sql | tail -n 1; $0 run --profile walkin --in-process guest.sql | tail -n 1",
    );
    // In process it is the host's own time: there is no worker to be without it.
    assert_eq!(ran.stdout, "2026-01-01 00:00:00\n2026-01-01 09:00:00\n", "{ran:?}");
}

#[test]
fn without_randomness_no_worker_starts() {
    let folder = Folder::new();
    fs::write(folder.path("guest.sql"), "select 6 * 7").unwrap();
    let ran = with_mounts(
        &folder,
        "touch null && mount --bind /dev/null null && mount -t tmpfs none /dev && touch /dev/null && mount --bind null /dev/null
         $0 run --profile walkin guest.sql; echo \"exit code $?\"",
    );
    assert_eq!(ran.stdout, "exit code 2\n", "{ran:?}");
    assert!(ran.stderr.contains("`/dev/urandom` cannot be opened"), "{ran:?}");
}
