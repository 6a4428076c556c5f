//! The Homebrew Channel program: everything but the entry point.
#![no_std]
