//! The blocks are handed out once. A test of its own, since it needs a process of its own.

use hollywood_pac::Peripherals;

#[test]
fn peripherals_are_taken_once() {
    {
        let _first = Peripherals::take().expect("nobody has them yet");
        assert!(Peripherals::take().is_none());
    }
    assert!(
        Peripherals::take().is_none(),
        "letting go does not give them back"
    );
}
