//! A minimal DICOM file (PS3.10): preamble, file meta information, explicit VR little endian, one
//! 16-bit grey image of a slope with noise, like a detector's.

use super::context::{Context, compact};
use super::random::Random;

/// Computed Radiography Image Storage.
const SOP_CLASS: &str = "1.2.840.10008.5.1.4.1.1.1";
/// Explicit VR Little Endian.
const TRANSFER_SYNTAX: &str = "1.2.840.10008.1.2.1";
/// Longest side in pixels: 704 × 704 × 2 bytes stay below 1 MiB.
const SIDE_MAX: i64 = 704;

/// Data elements in ascending order of their tags.
struct Elements(Vec<u8>);

impl Elements {
    /// An element whose value representation has a 16-bit length; padded to an even length.
    fn short(&mut self, tag: (u16, u16), representation: &[u8; 2], value: &[u8]) {
        let padding = if representation == b"UI" { 0 } else { b' ' };
        let odd = value.len() % 2;
        self.tag(tag, representation);
        self.0.extend_from_slice(&((value.len() + odd) as u16).to_le_bytes());
        self.0.extend_from_slice(value);
        self.0.extend(std::iter::repeat_n(padding, odd));
    }

    /// An element whose value representation has a 32-bit length; the value has an even length.
    fn long(&mut self, tag: (u16, u16), representation: &[u8; 2], value: &[u8]) {
        self.tag(tag, representation);
        self.0.extend_from_slice(&[0, 0]);
        self.0.extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.0.extend_from_slice(value);
    }

    fn tag(&mut self, (group, element): (u16, u16), representation: &[u8; 2]) {
        self.0.extend_from_slice(&group.to_le_bytes());
        self.0.extend_from_slice(&element.to_le_bytes());
        self.0.extend_from_slice(representation);
    }
}

/// An image of at most 1 MiB.
pub(super) fn image(context: &mut Context) -> Vec<u8> {
    let side = context.random.between(8, SIDE_MAX / 16) as u16 * 16;
    let instance = unique(&mut context.random);
    let mut meta = Elements(Vec::new());
    meta.long((2, 1), b"OB", &[0, 1]);
    meta.short((2, 2), b"UI", SOP_CLASS.as_bytes());
    meta.short((2, 3), b"UI", instance.as_bytes());
    meta.short((2, 0x10), b"UI", TRANSFER_SYNTAX.as_bytes());
    meta.short((2, 0x12), b"UI", b"2.25.329800735698586629295641978511506172918");

    let mut file = Elements(vec![0; 128]);
    file.0.extend_from_slice(b"DICM");
    file.short((2, 0), b"UL", &(meta.0.len() as u32).to_le_bytes());
    file.0.extend_from_slice(&meta.0);

    let (day, moment) = (compact(&context.date()), context.stamp());
    let person = &context.participant;
    // No alphabetic group: the ideographic and the phonetic one follow (PS3.5, 6.2.1.1).
    let name = format!("={}^{}={}^{}", person.family, person.given, person.family_kana, person.given_kana);
    file.short((8, 5), b"CS", b"ISO_IR 192");
    file.short((8, 0x16), b"UI", SOP_CLASS.as_bytes());
    file.short((8, 0x18), b"UI", instance.as_bytes());
    file.short((8, 0x20), b"DA", day.as_bytes());
    file.short((8, 0x30), b"TM", &moment.as_bytes()[8..]);
    file.short((8, 0x50), b"SH", context.random.digits(12).as_bytes());
    file.short((8, 0x60), b"CS", b"CR");
    file.short((8, 0x80), b"LO", context.facility.name.as_bytes());
    file.short((0x10, 0x10), b"PN", name.as_bytes());
    file.short((0x10, 0x20), b"LO", context.local_id.as_bytes());
    file.short((0x10, 0x30), b"DA", compact(&super::context::date(person.birth_day)).as_bytes());
    file.short((0x10, 0x40), b"CS", if person.female { b"F" } else { b"M" });
    file.short((0x20, 0xd), b"UI", unique(&mut context.random).as_bytes());
    file.short((0x20, 0xe), b"UI", unique(&mut context.random).as_bytes());
    file.short((0x20, 0x13), b"IS", b"1");
    file.short((0x28, 2), b"US", &1_u16.to_le_bytes());
    file.short((0x28, 4), b"CS", b"MONOCHROME2");
    file.short((0x28, 0x10), b"US", &side.to_le_bytes());
    file.short((0x28, 0x11), b"US", &side.to_le_bytes());
    file.short((0x28, 0x100), b"US", &16_u16.to_le_bytes());
    file.short((0x28, 0x101), b"US", &12_u16.to_le_bytes());
    file.short((0x28, 0x102), b"US", &11_u16.to_le_bytes());
    file.short((0x28, 0x103), b"US", &0_u16.to_le_bytes());
    file.long((0x7fe0, 0x10), b"OW", &pixels(&mut context.random, side));
    file.0
}

/// A slope from corner to corner with five bits of noise, 12 bits a pixel.
fn pixels(random: &mut Random, side: u16) -> Vec<u8> {
    let mut pixels = Vec::with_capacity(usize::from(side) * usize::from(side) * 2);
    let slope = random.between(1, 3) as u32;
    for row in 0..u32::from(side) {
        let mut noise = 0;
        for column in 0..u32::from(side) {
            if column % 12 == 0 {
                noise = random.bits();
            }
            let value = ((row + column) * slope + (noise as u32 & 31)) & 0xfff;
            noise >>= 5;
            pixels.extend_from_slice(&(value as u16).to_le_bytes());
        }
    }
    pixels
}

/// A unique identifier derived from a UUID (PS3.5, B.2).
fn unique(random: &mut Random) -> String {
    format!("2.25.{}", (u128::from(random.bits()) << 64) | u128::from(random.bits()))
}
