//! What the log must carry. The host compares the text of `log-integers` with the literals here.

use super::suite::{Needs, Test};
use wiistick::arguments::Arguments;

pub const TESTS: &[Test] = &[
    ("log-integers", Needs::Nothing, integers),
    ("log-flood", Needs::Nothing, flood),
    ("log-nested", Needs::Nothing, nested),
    ("arguments", Needs::Nothing, arguments),
];

fn integers(_: Arguments<'static>) -> Result<(), &'static str> {
    defmt::info!("u8 {=u8} {=u8}", 0, u8::MAX);
    defmt::info!("u16 {=u16} {=u16}", 0x0102, u16::MAX);
    defmt::info!("u32 {=u32} {=u32}", 0x0102_0304, u32::MAX);
    defmt::info!("u64 {=u64} {=u64}", 0x0102_0304_0506_0708, u64::MAX);
    defmt::info!("u128 {=u128}", u128::MAX - 1);
    defmt::info!("i8 {=i8} {=i8}", i8::MIN, i8::MAX);
    defmt::info!("i16 {=i16} {=i16}", i16::MIN, i16::MAX);
    defmt::info!("i32 {=i32} {=i32}", i32::MIN, i32::MAX);
    defmt::info!("i64 {=i64} {=i64}", i64::MIN, i64::MAX);
    defmt::info!("i128 {=i128}", i128::MIN);
    defmt::info!("usize {=usize} isize {=isize}", usize::MAX, isize::MIN);
    defmt::info!("f32 {=f32} f64 {=f64}", 1.5, -2.25);
    defmt::info!("bool {=bool} char {=char}", true, 'ß');
    defmt::info!("str {=str} slice {=[u8]}", "MEM2 ≠ MEM1", [1, 2, 255]);
    defmt::info!("bits {=u32:#010x}", 0x8000_1800);
    Ok(())
}

/// Many times the capacity of the ring: with a host that reads, nothing may be lost.
fn flood(_: Arguments<'static>) -> Result<(), &'static str> {
    for line in 0..50_000_u32 {
        defmt::info!("line {=u32} of the flood", line);
    }
    Ok(())
}

/// A message that is logged while another is being formatted must not harm it.
fn nested(_: Arguments<'static>) -> Result<(), &'static str> {
    struct Chatty;
    impl defmt::Format for Chatty {
        fn format(&self, f: defmt::Formatter<'_>) {
            defmt::info!("inner");
            defmt::write!(f, "chatty");
        }
    }
    for round in 0..3_u32 {
        defmt::info!("outer {=u32} {} end", round, Chatty);
    }
    Ok(())
}

fn arguments(arguments: Arguments<'static>) -> Result<(), &'static str> {
    if arguments.value("greeting") != Some("grüß dich, Wii") {
        return Err("the argument greeting=... has not arrived as it was sent");
    }
    if !arguments.has("last") {
        return Err("the last argument has not arrived");
    }
    Ok(())
}
