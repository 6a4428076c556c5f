//! What was lent cannot be read through the loan.
use mem2_dma::{FromDevice, Lent};

fn misuse(lent: Lent<FromDevice>) -> u8 {
    lent[0]
}

fn main() {}
