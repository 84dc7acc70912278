//! Where timelines begin, and what a receiver leaves that was cut short there.
//!
//! A timeline begins inside a WAL segment: its file of that segment repeats the older timeline's WAL up to
//! the fork. A walreceiver that changes to a new timeline fetches that file from its beginning, with WAL
//! that the standby has already under the older name. Killed before it gets to the fork, it leaves a file
//! that PostgreSQL prefers to the older one, and in which less is found. A standby then ends with "WAL
//! location belongs to timeline 3, but previous recovered WAL file came from timeline 5" at every start;
//! one that follows nobody ends its WAL there, before commits that it has acknowledged.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use failover::Lsn;
use failover::extended::HistoryLine;
use tracing::warn;

use super::upstream::parse_history;
use crate::error::{KeeperError, Result};
use crate::files;

/// The forks on the way to `timeline`, oldest first, from its history file: each line names a timeline that
/// ended, and where; the next line's timeline, or the file's own, began there.
pub fn forks(pgdata: &Path, timeline: u32) -> Vec<HistoryLine> {
    let path = pgdata.join("pg_wal").join(format!("{timeline:08X}.history"));
    let text = files::read_text(&path).ok().flatten().unwrap_or_default();
    let ended = parse_history(&text);
    let children = ended.iter().skip(1).map(|line| line.timeline).chain([timeline]);
    ended
        .iter()
        .zip(children)
        .map(|(line, child)| HistoryLine {
            timeline: child as i32,
            parent: line.timeline as i32,
            switchpoint: line.switch,
        })
        .collect()
}

/// The timeline of the WAL that ends at `lsn`, on the way to `timeline`: that there is a file of the latter
/// does not mean that anything of it has arrived.
pub fn timeline_at(pgdata: &Path, timeline: u32, lsn: Lsn) -> u32 {
    let mut at = timeline as i32;
    for fork in forks(pgdata, timeline).iter().rev() {
        if fork.timeline == at && lsn < fork.switchpoint {
            at = fork.parent;
        }
    }
    at as u32
}

/// A first segment that does not reach its fork.
#[derive(Debug)]
pub struct CutShort {
    path: PathBuf,
    /// The older timeline's file of the same segment.
    older: PathBuf,
    /// That one is there and has as much.
    superfluous: bool,
}

/// Looks at the newest timeline that has a first segment here: a receiver goes on to the next one with a
/// whole file behind it. So does a position behind that segment.
pub fn cut_short(pgdata: &Path, position: Lsn) -> Result<Option<CutShort>> {
    let wal = pgdata.join("pg_wal");
    let failed = |error: &std::io::Error| KeeperError::io(format!("cannot read {}", wal.display()), error);
    let mut newest = 0;
    for entry in fs::read_dir(&wal).map_err(|e| failed(&e))? {
        let name = entry.map_err(|e| failed(&e))?.file_name();
        let timeline = name.to_str().and_then(|name| name.strip_suffix(".history"));
        newest = newest.max(timeline.and_then(|t| u32::from_str_radix(t, 16).ok()).unwrap_or(0));
    }
    for fork in forks(pgdata, newest).iter().rev() {
        // Files are as long as their segment; without one of the older timeline its own tells.
        let Some(size) = segment_size(&wal, fork.timeline) else { continue };
        let begin = fork.switchpoint.0 - fork.switchpoint.0 % size;
        let name = |timeline: i32| {
            let (number, per_id) = (begin / size, 0x1_0000_0000 / size);
            wal.join(format!("{timeline:08X}{:08X}{:08X}", number / per_id, number % per_id))
        };
        let (path, older) = (name(fork.timeline), name(fork.parent));
        if begin == fork.switchpoint.0 || !path.exists() {
            continue;
        }
        if position.0 >= begin + size {
            return Ok(None);
        }
        let reached = reach(&path, begin, fork.switchpoint.0).map_err(|e| failed(&e))?;
        if reached >= fork.switchpoint.0 {
            return Ok(None);
        }
        let superfluous =
            older.exists() && reach(&older, begin, fork.switchpoint.0).map_err(|e| failed(&e))? >= reached;
        return Ok(Some(CutShort { path, older, superfluous }));
    }
    Ok(None)
}

/// Makes a stopped standby find all its WAL again: a file that was cut short goes, or takes the older one's
/// name when it has more. What it has is WAL of the older timeline, all of it.
pub fn mend(pgdata: &Path) -> Result<()> {
    while let Some(CutShort { path, older, superfluous }) = cut_short(pgdata, Lsn::ZERO)? {
        warn!("{} was cut short before its timeline begins: {}", path.display(), match superfluous {
            true => "removing it, as the older timeline's file has as much".to_owned(),
            false => format!("it has more than {} and takes its name", older.display()),
        });
        if superfluous {
            files::remove(&path)?;
        } else {
            fs::rename(&path, &older)
                .and_then(|()| files::sync_dir(&pgdata.join("pg_wal")))
                .map_err(|error| KeeperError::io(format!("cannot rename {}", path.display()), &error))?;
        }
    }
    Ok(())
}

/// Bytes of a segment of this timeline.
fn segment_size(wal: &Path, timeline: i32) -> Option<u64> {
    let prefix = format!("{timeline:08X}");
    fs::read_dir(wal).ok()?.flatten().find_map(|entry| {
        let name = entry.file_name();
        let name = name.to_str()?;
        let is_segment = name.len() == 24 && name.starts_with(&prefix);
        entry.metadata().ok().map(|meta| meta.len()).filter(|size| is_segment && size.is_power_of_two())
    })
}

/// How far the WAL in a segment's file goes, to `end` at most: pages that belong there, and records that
/// follow each other with checksums that hold.
fn reach(path: &Path, begin: u64, end: u64) -> std::io::Result<u64> {
    let mut bytes = Vec::new();
    File::open(path)?.take((end - begin).next_multiple_of(LARGEST_BLOCK)).read_to_end(&mut bytes)?;
    // Without a first page nothing can be read (the number is in its long header).
    let block = u64::from(number(&bytes, 36));
    if !block.is_power_of_two() || !(1024..=LARGEST_BLOCK).contains(&block) {
        return Ok(begin);
    }
    Ok(Pages { bytes: &bytes, begin, block }.reach(end))
}

/// PostgreSQL's limit of `--with-wal-blocksize`.
const LARGEST_BLOCK: u64 = 64 * 1024;
/// XLP_FIRST_IS_CONTRECORD and XLP_LONG_HEADER (xlog_internal.h).
const CONTINUED: u16 = 1;
const LONG: u16 = 2;
/// SizeOfXLogRecord and where xl_crc stands in it (xlogrecord.h).
const HEAD: u64 = 24;
const CHECKSUM: usize = 20;

/// Four bytes of this machine's order; 0 beyond the end.
fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

struct Pages<'a> {
    bytes: &'a [u8],
    begin: u64,
    block: u64,
}

impl Pages<'_> {
    fn at(&self, lsn: u64) -> usize {
        (lsn - self.begin) as usize
    }

    /// Flags, remaining bytes of a record that began before, and the header's length, of the page that
    /// begins here.
    fn page(&self, lsn: u64) -> Option<(u16, u32, u64)> {
        let header = self.bytes.get(self.at(lsn)..self.at(lsn) + 24)?;
        let magic = u16::from_ne_bytes(header.get(..2)?.try_into().ok()?);
        let flags = u16::from_ne_bytes(header.get(2..4)?.try_into().ok()?);
        let address = u64::from_ne_bytes(header.get(8..16)?.try_into().ok()?);
        let length = if flags & LONG == 0 { 24 } else { 40 };
        (magic != 0 && address == lsn).then_some((flags, number(header, 16), length))
    }

    /// `length` bytes of a record, page headers left out, and where it ends. `None`: pages are missing.
    fn take(&self, mut lsn: u64, mut length: u64) -> Option<(Vec<u8>, u64)> {
        let mut taken = Vec::new();
        while length > 0 {
            if lsn.is_multiple_of(self.block) {
                lsn += self.page(lsn)?.2;
            }
            let here = length.min(self.block - lsn % self.block);
            taken.extend(self.bytes.get(self.at(lsn)..self.at(lsn) + here as usize)?);
            lsn += here;
            length -= here;
        }
        Some((taken, lsn.next_multiple_of(8)))
    }

    fn reach(&self, end: u64) -> u64 {
        let Some((flags, rest, header)) = self.page(self.begin) else { return self.begin };
        let mut at = self.begin + header;
        if flags & CONTINUED != 0 {
            match self.take(at, u64::from(rest)) {
                Some((_, behind)) => at = behind,
                // A record that ends beyond the file is not for us to judge.
                None if at + u64::from(rest) > end => return end,
                None => return self.begin,
            }
        }
        let mut before = None;
        while at < end {
            let mut start = at;
            if start.is_multiple_of(self.block) {
                match self.page(start) {
                    Some((_, _, header)) => start += header,
                    None => return at,
                }
            }
            if start >= end {
                return end;
            }
            let length = u64::from(number(self.bytes, self.at(start)));
            let Some((head, _)) = self.take(start, HEAD).filter(|_| length >= HEAD) else { return at };
            let previous = u64::from(number(&head, 8)) | u64::from(number(&head, 12)) << 32;
            if before.is_some_and(|before| before != previous) {
                return at;
            }
            let Some((record, behind)) = self.take(start, length) else {
                // It crosses the fork, where the older timeline's last record was never finished.
                return if start + length > end { end } else { at };
            };
            if behind > end {
                return end;
            }
            let (head, body) = record.split_at(HEAD as usize);
            let sum = crc32c::crc32c_append(crc32c::crc32c(body), head.get(..CHECKSUM).unwrap_or(head));
            if sum != number(head, CHECKSUM) {
                return at;
            }
            (before, at) = (Some(start), behind);
        }
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 1 << 20;
    const BLOCK: u64 = 8192;
    /// Of the segment in which timeline 5 begins.
    const BEGIN: u64 = 10 * SEGMENT;

    /// A segment with records as PostgreSQL writes them, and where each of them begins.
    fn segment(lengths: &[u64]) -> (Vec<u8>, Vec<u64>) {
        let mut bytes = vec![0; SEGMENT as usize];
        let mut put = |lsn: u64, what: &[u8]| {
            let at = (lsn - BEGIN) as usize;
            bytes[at..at + what.len()].copy_from_slice(what);
        };
        let header = |lsn: u64, rest: u32| {
            let flags = if lsn == BEGIN { LONG } else { 0 } | if rest > 0 { CONTINUED } else { 0 };
            let mut page = [&0xD110u16.to_ne_bytes()[..], &flags.to_ne_bytes(), &3u32.to_ne_bytes()].concat();
            page.extend(lsn.to_ne_bytes());
            page.extend(rest.to_ne_bytes());
            page.extend([0; 4]);
            if lsn == BEGIN {
                page.extend(7u64.to_ne_bytes());
                page.extend((SEGMENT as u32).to_ne_bytes());
                page.extend((BLOCK as u32).to_ne_bytes());
            }
            page
        };
        let (mut at, mut before, mut starts) = (BEGIN, 0u64, Vec::new());
        for (i, length) in lengths.iter().enumerate() {
            if at % BLOCK == 0 {
                let page = header(at, 0);
                put(at, &page);
                at += page.len() as u64;
            }
            starts.push(at);
            let body: Vec<u8> = (0..*length - HEAD).map(|n| (n as usize * 31 + i) as u8).collect();
            let mut head = [&(*length as u32).to_ne_bytes()[..], &1u32.to_ne_bytes(), &before.to_ne_bytes(), &[0; 4]].concat();
            head.extend(crc32c::crc32c_append(crc32c::crc32c(&body), &head).to_ne_bytes());
            before = at;
            let record = [head, body].concat();
            let mut left = &record[..];
            while !left.is_empty() {
                if at % BLOCK == 0 {
                    let page = header(at, left.len() as u32);
                    put(at, &page);
                    at += page.len() as u64;
                }
                let here = left.len().min((BLOCK - at % BLOCK) as usize);
                put(at, &left[..here]);
                at += here as u64;
                left = &left[here..];
            }
            at = at.next_multiple_of(8);
        }
        starts.push(at);
        (bytes, starts)
    }

    /// A standby whose WAL ends at the fork to timeline 5, under timeline 3's name.
    struct Standby {
        dir: tempfile::TempDir,
        wal: Vec<u8>,
        starts: Vec<u64>,
    }

    impl Standby {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("pg_wal")).unwrap();
            let (wal, starts) = segment(&[100, 8000, 30_000, 64, 8192, 200]);
            let standby = Standby { dir, wal, starts };
            let fork = Lsn(*standby.starts.last().unwrap());
            standby.put("00000005.history", format!("3\t{fork}\tno recovery target specified\n").as_bytes());
            standby.put(OLD, &standby.wal);
            standby
        }

        fn put(&self, name: &str, what: &[u8]) {
            fs::write(self.dir.path().join("pg_wal").join(name), what).unwrap();
        }

        /// Everything up to there, and nothing behind.
        fn up_to(&self, lsn: u64) -> Vec<u8> {
            let mut bytes = self.wal.clone();
            bytes[(lsn - BEGIN) as usize..].fill(0);
            bytes
        }

        fn mended(&self) -> Vec<(String, Vec<u8>)> {
            mend(self.dir.path()).unwrap();
            let entries = fs::read_dir(self.dir.path().join("pg_wal")).unwrap().flatten();
            let mut files: Vec<_> = entries
                .map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap()))
                .filter(|(name, _)| !name.ends_with(".history"))
                .collect();
            files.sort();
            files
        }
    }

    const OLD: &str = "00000003000000000000000A";
    const NEW: &str = "00000005000000000000000A";

    #[test]
    fn a_first_segment_that_was_cut_short_goes_wherever_it_ends() {
        let standby = Standby::new();
        let inside = standby.starts.iter().flat_map(|start| [*start, start + 1, start + 30, start + 4096]);
        let fork = *standby.starts.last().unwrap();
        for end in inside.filter(|end| *end < fork).chain([BEGIN, BEGIN + 8192, BEGIN + 16384]) {
            standby.put(NEW, &standby.up_to(end));
            assert!(standby.mended() == [(OLD.to_owned(), standby.wal.clone())], "cut short at {}", Lsn(end));
        }
        // A recycled file: pages of another place behind what has arrived.
        let mut recycled = standby.up_to(BEGIN + 8192);
        let (page, old) = recycled.split_at_mut(8192);
        old[..8192].copy_from_slice(page);
        standby.put(NEW, &recycled);
        assert_eq!(standby.mended().len(), 1);
    }

    #[test]
    fn a_whole_first_segment_stays() {
        let standby = Standby::new();
        standby.put(NEW, &standby.wal);
        assert_eq!(standby.mended().len(), 2);
        // With a record of the new timeline behind the fork, and without the older one's file.
        let (longer, _) = segment(&[100, 8000, 30_000, 64, 8192, 200, 5000]);
        standby.put(NEW, &longer);
        fs::remove_file(standby.dir.path().join("pg_wal").join(OLD)).unwrap();
        assert!(standby.mended() == [(NEW.to_owned(), longer)]);
    }

    #[test]
    fn what_only_the_first_segment_has_is_kept_under_the_older_name() {
        let standby = Standby::new();
        let most = standby.up_to(standby.starts[4]);
        standby.put(OLD, &standby.up_to(standby.starts[2]));
        standby.put(NEW, &most);
        assert!(standby.mended() == [(OLD.to_owned(), most.clone())]);
        fs::remove_file(standby.dir.path().join("pg_wal").join(OLD)).unwrap();
        standby.put(NEW, &most);
        assert!(standby.mended() == [(OLD.to_owned(), most)]);
    }

    #[test]
    fn forks_of_a_history_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("pg_wal")).unwrap();
        let history = "1\t0/3000148\tno recovery target specified\n\n3\t0/5000000\tx\n";
        fs::write(dir.path().join("pg_wal/00000005.history"), history).unwrap();
        let found = forks(dir.path(), 5);
        let found: Vec<(i32, i32, u64)> = found.iter().map(|l| (l.timeline, l.parent, l.switchpoint.0)).collect();
        assert_eq!(found, [(3, 1, 0x300_0148), (5, 3, 0x500_0000)]);
        assert!(forks(dir.path(), 2).is_empty());
        for (lsn, timeline) in [(0x500_0001, 5), (0x500_0000, 5), (0x4FF_FFFF, 3), (0x300_0147, 1)] {
            assert_eq!(timeline_at(dir.path(), 5, Lsn(lsn)), timeline, "{lsn:X}");
        }
    }
}
