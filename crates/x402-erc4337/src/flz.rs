//! FastLZ level 1 as [Solady's `LibZip`](https://github.com/vectorized/solady/blob/main/src/utils/LibZip.sol)
//! decompresses it: the compression of the enabling signatures of Smart Sessions.

/// The maximum size of decompressed data: 64 KiB. Three bytes of input can produce 264.
pub const MAX_UNPACKED: usize = 64 * 1024;

/// The error for bytes that are not FastLZ, or decompress to too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlzError {
    /// The input ends inside an instruction.
    #[error("compressed data ends inside an instruction")]
    Truncated,
    /// An instruction copies from before the beginning.
    #[error("compressed data copies from before the beginning")]
    Distance,
    /// The output exceeds [`MAX_UNPACKED`].
    #[error("compressed data unpacks to more than {MAX_UNPACKED} bytes")]
    TooLong,
}

/// Decompresses the data.
/// # Errors
/// The input ends early, copies from before the beginning, or is a decompression bomb.
pub fn decompress(mut data: &[u8]) -> Result<Vec<u8>, FlzError> {
    let mut out = Vec::with_capacity(data.len().min(MAX_UNPACKED));
    while let Some((&control, rest)) = data.split_first() {
        let kind = control >> 5;
        if kind == 0 {
            let (literals, rest) = rest.split_at_checked(usize::from(control) + 1).ok_or(FlzError::Truncated)?;
            room(&out, literals.len())?;
            out.extend_from_slice(literals);
            data = rest;
            continue;
        }
        let (length, rest) = if kind == 7 {
            let (&more, rest) = rest.split_first().ok_or(FlzError::Truncated)?;
            (9 + usize::from(more), rest)
        } else {
            (2 + usize::from(kind), rest)
        };
        let (&low, rest) = rest.split_first().ok_or(FlzError::Truncated)?;
        let distance = (usize::from(control & 0x1f) << 8) + usize::from(low) + 1;
        room(&out, length)?;
        let start = out.len().checked_sub(distance).ok_or(FlzError::Distance)?;
        // The source may overlap the bytes that are being written.
        for i in start..start + length {
            let byte = *out.get(i).ok_or(FlzError::Distance)?;
            out.push(byte);
        }
        data = rest;
    }
    Ok(out)
}

/// Compresses into literal runs, "len-1 ‖ at most 32 bytes": valid, and 1/32 longer than the input.
#[must_use]
pub fn literals(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + data.len().div_ceil(32));
    for chunk in data.chunks(32) {
        out.push(u8::try_from(chunk.len() - 1).unwrap_or(31));
        out.extend_from_slice(chunk);
    }
    out
}

fn room(out: &[u8], more: usize) -> Result<(), FlzError> {
    if out.len() + more > MAX_UNPACKED { Err(FlzError::TooLong) } else { Ok(()) }
}
