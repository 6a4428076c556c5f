//! A register of events has no `write`, only `clear`.
use hollywood_pac::irq::Sources;
use hollywood_pac::peripherals::Irq;

fn acknowledge(irq: &Irq) {
    irq.flag.write(Sources::default());
}

fn main() {
    let _ = acknowledge;
}
