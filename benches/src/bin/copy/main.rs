//! What copies of `hollywood-pac` cost, from and to every place in a cache line, and a bounced byte with all that belongs to it.

#[cfg(target_arch = "powerpc")]
mod broadway;

fn main() {
    // On other processors there is nothing to count.
    #[cfg(target_arch = "powerpc")]
    if benches::counting() {
        broadway::copies();
        broadway::bounces();
        benches::finish();
    }
}
