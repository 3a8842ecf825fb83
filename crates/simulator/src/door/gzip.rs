//! gzip written by hand: a body as it is in stored blocks, and a bomb that unpacks to far more than
//! it is. Never unpacks anything.

/// Header: deflate, no flags, no time, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// The most a stored block can hold.
const STORED_BLOCK: usize = 65_535;

/// The longest match deflate knows.
const LONGEST_MATCH: u64 = 258;

/// `body` in gzip, not one byte smaller.
pub(super) fn stored(body: &[u8]) -> Vec<u8> {
    let mut out = HEADER.to_vec();
    let mut blocks = body.chunks(STORED_BLOCK).peekable();
    if blocks.peek().is_none() {
        push_stored_block(&mut out, &[], true);
    }
    while let Some(block) = blocks.next() {
        push_stored_block(&mut out, block, blocks.peek().is_none());
    }
    out.extend(crc32(body).to_le_bytes());
    out.extend((body.len() as u32).to_le_bytes());
    out
}

fn push_stored_block(out: &mut Vec<u8>, block: &[u8], last: bool) {
    let length = block.len() as u16;
    out.push(u8::from(last));
    out.extend(length.to_le_bytes());
    out.extend((!length).to_le_bytes());
    out.extend(block);
}

/// About `unpacked` blanks, a hundred and fifty times as many as bytes: blanks, because JSON may
/// begin with any number of them. The checksum is not right; whoever reads so far has lost.
pub(super) fn bomb(unpacked: u64) -> Vec<u8> {
    let mut bits = Bits { out: HEADER.to_vec(), pending: 0, count: 0 };
    // The last block, with the fixed codes.
    bits.push(0b1, 1);
    bits.push(0b01, 2);
    bits.push_code(0x30 + u32::from(b' '), 8);
    for _ in 0..unpacked / LONGEST_MATCH {
        // Length 258, then distance 1.
        bits.push_code(0b1100_0101, 8);
        bits.push_code(0, 5);
    }
    bits.push_code(0, 7);
    let mut out = bits.finish();
    out.extend([0; 4]);
    out.extend((unpacked as u32).to_le_bytes());
    out
}

/// Bits in deflate's order: from the lowest of each byte up.
struct Bits {
    out: Vec<u8>,
    pending: u32,
    count: u32,
}

impl Bits {
    fn push(&mut self, value: u32, count: u32) {
        self.pending |= value << self.count;
        self.count += count;
        while self.count >= 8 {
            self.out.push(self.pending as u8);
            self.pending >>= 8;
            self.count -= 8;
        }
    }

    /// Huffman codes go the other way round.
    fn push_code(&mut self, code: u32, count: u32) {
        self.push(code.reverse_bits() >> (32 - count), count);
    }

    fn finish(mut self) -> Vec<u8> {
        if self.count > 0 {
            self.out.push(self.pending as u8);
        }
        self.out
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 }
        })
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::{DeflateDecoder, GzDecoder};

    use super::*;

    #[test]
    fn a_stored_body_unpacks_to_itself() {
        for length in [0, 1, STORED_BLOCK, STORED_BLOCK + 1, 200_000] {
            let body: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            let mut unpacked = Vec::new();
            GzDecoder::new(&stored(&body)[..]).read_to_end(&mut unpacked).unwrap();
            assert_eq!(unpacked, body);
        }
    }

    #[test]
    fn a_bomb_unpacks_to_far_more_blanks_than_it_has_bytes() {
        let bomb = bomb(10 << 20);
        let mut unpacked = Vec::new();
        DeflateDecoder::new(&bomb[HEADER.len()..bomb.len() - 8])
            .read_to_end(&mut unpacked)
            .unwrap();
        assert!(unpacked.iter().all(|byte| *byte == b' '));
        assert!(unpacked.len().abs_diff(10 << 20) < 300);
        assert!(bomb.len() * 150 < unpacked.len());
    }
}
