//! Benchmarks of single parts; the programs are in `benches/`. Whole clusters are measured by
//! `duramen bench` and `cargo xtask groups many`.
