//! Runs the Rust code of the book: each chapter that has some is the documentation of an item here. The chapters themselves
//! are in `src`; `cargo xtask book` makes pages of them.
#![no_std]

/// Pages whose code blocks are documentation tests.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("src/bounce-pool.md")]
    struct BouncePool;
    #[doc = include_str!("src/tests.md")]
    struct Tests;
}
