//! Silences the PC-style interrupt controllers: on a Wii nothing interrupts a program that has not asked for it, here
//! the timer would as soon as the program enables interrupts.
//!
//! A pair of Intel 8259A in ISA I/O, which DBAT5 maps at 0xE0000000. A program may unmask what it wants: the
//! acknowledge register then reads as the number of the line, 0 to 15.

/// Command register; the data register follows it.
const PRIMARY: usize = 0xE000_0020;
const SECONDARY: usize = 0xE000_00A0;

/// Initialises both controllers (data sheet, initialisation command words 1 to 4) and masks every line.
pub fn mask_all() {
    for (controller, first_line, cascade) in [(PRIMARY, 0, 1 << 2), (SECONDARY, 8, 2)] {
        write(controller, 0x11); // ICW1: edge triggered, cascaded, ICW4 follows
        write(controller + 1, first_line); // ICW2
        write(controller + 1, cascade); // ICW3: the secondary is on line 2
        write(controller + 1, 0x01); // ICW4: normal end of interrupt
        write(controller + 1, 0xFF); // OCW1: all masked
    }
}

fn write(port: usize, byte: u8) {
    // SAFETY: DBAT5 maps the ports; the machine's ISA bridge always has these controllers.
    unsafe { (port as *mut u8).write_volatile(byte) }
}
