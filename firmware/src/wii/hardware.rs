//! What this machine is, and what it lets the program do.

use embassy_futures::block_on;
use hollywood_pac::lowmem::LowMemory;
use hollywood_pac::peripherals::{Latte, Protection};

use super::ipc;
use crate::ui::access::Obstacle;

/// Dolphin's own device (hardware notes, section 9.3).
const DOLPHIN: &str = "/dev/dolphin";
/// Upper half of a Wii U's identification (hardware notes, section 4).
const WII_U: u32 = 0xCAFE;

/// Says why the controller must be left alone; `None` if nothing is known against it. Only on a machine that has IOS.
///
/// The order matters: in Dolphin, registers that it does not have read as if everything were allowed, and writing them
/// reaches others.
pub fn obstacle() -> Option<Obstacle> {
    if is_dolphin() {
        return Some(Obstacle::Dolphin);
    }
    // SAFETY: the registers are there, and are only read.
    let (protection, latte) = unsafe { (Protection::steal(), Latte::steal()) };
    if !protection.is_open() {
        return Some(Obstacle::Closed);
    }
    if latte.chiprevid.read() >> 16 == WII_U {
        return Some(Obstacle::WiiU);
    }
    None
}

/// Returns the number of the IOS that runs.
pub fn ios_number() -> Option<u16> {
    LowMemory::get().ios_version().map(|version| version.number)
}

fn is_dolphin() -> bool {
    let Ok(ios) = ipc::ios() else {
        return false;
    };
    block_on(async {
        match ios.open(DOLPHIN, 0).await {
            Ok(fd) => {
                let _ = ios.close(fd).await;
                true
            }
            Err(_) => false,
        }
    })
}
