//! What a person sees and presses: pure logic and drawing, without a machine.
//!
//! ```text
//!   keys ──► App (state) ──► Screen (what is said) ──► Canvas (pixels) ──► the television
//!             │    ▲
//!    commands ▼    │ news
//!          whoever has the sticks
//! ```

pub mod access;
pub mod app;
pub mod boot_keyboard;
pub mod canvas;
pub mod colour;
pub mod font;
pub mod keys;
pub mod pad;
pub mod paint;
pub mod screen;
