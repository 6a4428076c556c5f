//! The blocks are handed out once. A test of its own, since it needs a process of its own.

use hollywood_pac::Peripherals;

#[test]
fn peripherals_are_taken_once() {
    let first = Peripherals::take();
    assert!(first.is_some());
    assert!(Peripherals::take().is_none());
    drop(first);
    assert!(
        Peripherals::take().is_none(),
        "dropping does not give them back"
    );
}
