#![doc = include_str!("conformance.md")]

#[cfg(test)]
mod tests {
    const DOCUMENT: &str = include_str!("conformance.md");
    const SOURCES: [&str; 9] = [
        include_str!("tests/asynchronous.rs"),
        include_str!("tests/faults.rs"),
        include_str!("tests/isochronous.rs"),
        include_str!("tests/periodic.rs"),
        include_str!("tests/ports.rs"),
        include_str!("tests/queue.rs"),
        include_str!("tests/registers.rs"),
        include_str!("tests/split.rs"),
        include_str!("../../tests/wrong_drivers.rs"),
    ];

    /// The names of the tests, as the last column of the tables has them.
    fn named() -> Vec<&'static str> {
        let rows = DOCUMENT.lines().filter(|line| line.ends_with("` |"));
        let name = |row: &'static str| row.trim_end_matches("` |").rsplit('`').next();
        rows.filter_map(name).collect()
    }

    #[test]
    fn each_rule_has_a_test_that_exists() {
        let named = named();
        assert!(named.len() > 80, "{} rules", named.len());
        for name in named {
            let test = format!("#[test]\nfn {name}() {{");
            let count = SOURCES
                .iter()
                .filter(|source| source.contains(&test))
                .count();
            assert_eq!(count, 1, "{name}");
        }
    }

    #[test]
    fn each_test_of_the_specification_has_a_rule() {
        let named = named();
        // What is beyond the specification: faults, adversaries, whole transfers.
        let beyond = [
            "a_completion_may_be_lost",
            "a_control_transfer_reaches_a_low_speed_device",
            "a_controller_may_halt_by_itself",
            "a_doorbell_may_never_be_answered",
            "a_high_speed_device_behind_a_hub_needs_no_splits",
            "a_hub_tells_what_changed_at_its_ports",
            "a_queue_head_can_be_taken_out_whatever_is_decided",
            "bytes_are_right_whatever_the_controller_does_early_or_late",
            "what_is_no_register_is_reported",
        ];
        for source in &SOURCES[..8] {
            if source.starts_with("//! Faults") {
                continue;
            }
            for test in source.split("#[test]\nfn ").skip(1) {
                let name = test.split('(').next().unwrap_or_default();
                assert!(named.contains(&name) || beyond.contains(&name), "{name}");
            }
        }
    }
}
