//! A cursor over received bytes: it checks every step, and every refusal names its field and offset.

use super::malformed::Reason;

/// Reads fields one after the other, up to `end`, and skips the rest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// Starts at `offset`; offsets in refusals count from the start of `bytes`.
    pub(super) fn new(bytes: &'a [u8], offset: usize) -> Self {
        Self { bytes, offset }
    }

    pub(super) fn take(&mut self, field: &'static str, needed: usize) -> Result<&'a [u8], Reason> {
        let (offset, left) = (self.offset, self.left());
        let taken = self.bytes.get(offset..).and_then(|rest| rest.get(..needed));
        let taken = taken.ok_or(Reason::CutShort { field, offset, needed, left })?;
        self.offset += needed;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Reason> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(field, N)?);
        Ok(array)
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, Reason> {
        self.array(field).map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, Reason> {
        self.array(field).map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, Reason> {
        self.array(field).map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, Reason> {
        self.array(field).map(u64::from_be_bytes)
    }

    /// A length of one byte, then a text of that many bytes.
    pub(super) fn name(&mut self, field: &'static str) -> Result<&'a str, Reason> {
        let length = self.u8(field)?;
        self.text(field, length.into())
    }

    /// A length of two bytes, then a text of that many bytes.
    pub(super) fn long_text(&mut self, field: &'static str) -> Result<&'a str, Reason> {
        let length = self.u16(field)?;
        self.text(field, length.into())
    }

    /// A length of four bytes, then that many bytes.
    pub(super) fn blob(&mut self, field: &'static str) -> Result<&'a [u8], Reason> {
        let length = self.u32(field)?;
        self.take(field, usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// A length of two bytes, then a part of that size with fields of its own.
    pub(super) fn part(&mut self, field: &'static str) -> Result<Self, Reason> {
        let length = self.u16(field)?;
        let start = self.offset;
        self.take(field, length.into())?;
        Ok(Self { bytes: &self.bytes[..self.offset], offset: start })
    }

    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    pub(super) fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.offset)
    }

    /// How many pieces of at least `least` bytes to reserve when the peer declares `count` of them.
    pub(super) fn room(&self, count: usize, least: usize) -> usize {
        count.min(self.left() / least)
    }

    fn text(&mut self, field: &'static str, length: usize) -> Result<&'a str, Reason> {
        let offset = self.offset;
        str::from_utf8(self.take(field, length)?).map_err(|_| Reason::NotUtf8 { field, offset })
    }
}
