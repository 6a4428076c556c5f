//! Where a disk's bytes are: in memory, in a file, or mostly nowhere.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The bytes of a disk.
pub trait Medium {
    /// Reads.
    ///
    /// # Errors
    /// A medium error.
    fn read(&mut self, at: u64, into: &mut [u8]) -> io::Result<()>;

    /// Writes.
    ///
    /// # Errors
    /// A medium error.
    fn write(&mut self, at: u64, from: &[u8]) -> io::Result<()>;

    /// Makes what was written last.
    ///
    /// # Errors
    /// A medium error.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Medium for Vec<u8> {
    fn read(&mut self, at: u64, into: &mut [u8]) -> io::Result<()> {
        let from = self.get(at as usize..).and_then(|s| s.get(..into.len()));
        into.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write(&mut self, at: u64, from: &[u8]) -> io::Result<()> {
        let into = self.get_mut(at as usize..);
        let into = into.and_then(|s| s.get_mut(..from.len()));
        into.ok_or(io::ErrorKind::UnexpectedEof)?
            .copy_from_slice(from);
        Ok(())
    }
}

impl Medium for File {
    fn read(&mut self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(into, at)
    }

    fn write(&mut self, at: u64, from: &[u8]) -> io::Result<()> {
        self.write_all_at(from, at)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// A test keeps a hand on the bytes.
impl<M: Medium> Medium for std::rc::Rc<std::cell::RefCell<M>> {
    fn read(&mut self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.borrow_mut().read(at, into)
    }

    fn write(&mut self, at: u64, from: &[u8]) -> io::Result<()> {
        self.borrow_mut().write(at, from)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.borrow_mut().flush()
    }
}

const PIECE: usize = 4096;

/// Zeros, of which only what was written takes memory.
#[derive(Clone, Default, Debug)]
pub struct Sparse(HashMap<u64, Vec<u8>>);

impl Sparse {
    /// Cuts a range at multiples of [`PIECE`]: number of the piece, where in it, where in the range.
    fn pieces(at: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
        let mut done = 0;
        std::iter::from_fn(move || {
            if done == len {
                return None;
            }
            let here = at + done as u64;
            let start = (here % PIECE as u64) as usize;
            let range = done..len.min(done + PIECE - start);
            done = range.end;
            Some((here / PIECE as u64, start, range))
        })
    }
}

impl Medium for Sparse {
    fn read(&mut self, at: u64, into: &mut [u8]) -> io::Result<()> {
        for (piece, start, range) in Self::pieces(at, into.len()) {
            let into = &mut into[range];
            match self.0.get(&piece) {
                Some(bytes) => into.copy_from_slice(&bytes[start..][..into.len()]),
                None => into.fill(0),
            }
        }
        Ok(())
    }

    fn write(&mut self, at: u64, from: &[u8]) -> io::Result<()> {
        for (piece, start, range) in Self::pieces(at, from.len()) {
            let from = &from[range];
            let bytes = self.0.entry(piece).or_insert_with(|| vec![0; PIECE]);
            bytes[start..][..from.len()].copy_from_slice(from);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparse_medium_keeps_what_was_written_across_pieces() {
        let mut medium = Sparse::default();
        let at = (5 << 40) - 3;
        medium.write(at, &[7; 5000]).unwrap();
        let mut bytes = [1; 5002];
        medium.read(at - 1, &mut bytes).unwrap();
        assert_eq!((bytes[0], bytes[1], bytes[5000], bytes[5001]), (0, 7, 7, 0));
        assert_eq!(medium.0.len(), 3);
    }

    #[test]
    fn bytes_end_where_they_end() {
        let mut medium = vec![1, 2, 3];
        assert!(medium.read(2, &mut [0; 2]).is_err());
        assert!(medium.write(u64::MAX, &[0]).is_err());
    }
}
