//! What plans can say, and what is said of those that are wrong.

use super::*;

fn one(text: &str) -> Fault {
    let plan = Plan::parse(&format!("[[fault]]\n{text}")).unwrap();
    plan.faults.into_iter().next().unwrap()
}

fn wrong(text: &str) -> String {
    Plan::parse(text).unwrap_err().to_string()
}

#[test]
fn the_example_has_every_kind() {
    let plan = Plan::parse(crate::faults::EXAMPLE).unwrap();
    plan.check_nodes(3).unwrap();
    for kind in Kind::ALL {
        assert!(plan.faults.iter().any(|fault| fault.action.kind == kind), "{kind}");
    }
}

#[test]
fn a_fault_says_what_when_and_where() {
    let fault = one("kind = 'late_ack'\ntarget = 'leader of orders/2'\nstart = '2s'\nfor = '1m'\n\
         every = '2m'\njitter = 0.25\ntimes = 4\nprobability = 0.1\ndelay = ['1ms', '2s']\n\
         topic = 'orders'\n");
    assert_eq!(fault.action.kind, Kind::LateAck);
    assert_eq!(fault.target, Target::Leader { topic: "orders".into(), partition: 2 });
    assert_eq!((fault.start.as_secs(), fault.jitter_ppm, fault.times), (2, 250_000, Some(4)));
    assert_eq!(fault.length, Some(Duration::from_secs(60)));
    assert_eq!(fault.every, Some(Duration::from_secs(120)));
    assert_eq!(fault.action.ppm, 100_000);
    assert_eq!(fault.action.delay, (Duration::from_millis(1), Duration::from_secs(2)));
    assert_eq!((fault.action.topic.as_deref(), fault.action.partition), (Some("orders"), None));
}

#[test]
fn what_is_not_said_has_a_default() {
    let lost = one("kind = 'lost_ack'\n");
    assert_eq!((lost.target, lost.action.ppm, lost.length), (Target::All, MILLION, None));
    let kill = one("kind = 'kill'\n");
    assert_eq!((kill.target, kill.every, kill.start), (Target::Any, None, Duration::ZERO));
    let refuse = one("kind = 'refuse'\nerror = 'overloaded'\ntopic = 'a/3'\n");
    assert_eq!(refuse.action.calls, REFUSED);
    assert_eq!((refuse.action.topic.as_deref(), refuse.action.partition), (Some("a"), Some(3)));
    assert_eq!(one("kind = 'duplicate_delivery'\n").action.records, RECORDS_AGAIN);
    assert_eq!(one("kind = 'kill'\ntarget = 3\n").target, Target::Node(3));
    assert_eq!(one("kind = 'kill'\ntarget = 'all'\n").target, Target::All);
}

#[test]
fn a_wrong_name_has_its_line_and_the_nearest_name() {
    let cases = [
        ("\n[[falt]]\nkind = 'kill'\n", "line 2: there is no key \"falt\", did you mean fault?"),
        (
            "[[fault]]\nkind = 'lost_akc'\n",
            "line 2: there is no kind \"lost_akc\", did you mean lost_ack?",
        ),
        (
            "[[fault]]\nkind = 'kill'\n\n[[fault]]\nkind = 'lost_ack'\nprobabilty = 0.1\n",
            "line 6: there is no key \"probabilty\", did you mean probability?",
        ),
        ("[[fault]]\nkind = 'kill'\nfor = '3s'\n", "line 3: there is no key \"for\""),
        (
            "[[fault]]\nkind = 'refuse'\nerror = 'overload'\n",
            "line 3: there is no error \"overload\", did you mean overloaded?",
        ),
        (
            "[[fault]]\nkind = 'refuse'\nerror = 'overloaded'\ncalls = ['prodcue']\n",
            "line 4: there is no call \"prodcue\", did you mean produce?",
        ),
    ];
    for (text, expected) in cases {
        let message = wrong(text);
        assert!(message.starts_with(expected), "{text}: {message}");
    }
    let far = wrong("[[fault]]\nkind = 'qqq'\n");
    assert!(!far.contains("did you mean") && far.contains("slow_fsync, fsync_error"), "{far}");
}

#[test]
fn a_wrong_value_says_what_it_can_be() {
    let cases = [
        ("kind = 3\n", "line 2: kind must be a text in quotes, not 3"),
        ("kind = 'freeze'\nfor = 3\n", "line 3: for must be a time such as"),
        ("kind = 'freeze'\n", "line 1: for is missing: how long it lasts"),
        ("kind = 'lost_ack'\nevery = '1s'\n", "line 1: for is missing: how long it lasts each"),
        ("kind = 'lost_ack'\nevery = '1s'\nfor = '2s'\n", "line 3: every must be at least 1ms"),
        ("kind = 'kill'\nevery = '0s'\n", "line 3: every must be"),
        ("kind = 'kill'\njitter = 0.5\n", "line 1: every is missing"),
        ("kind = 'lost_ack'\nprobability = 1.5\n", "line 3: probability must be a number from 0"),
        ("kind = 'lost_ack'\nprobability = nan\n", "line 3: probability must be a number from 0"),
        ("kind = 'slow_fsync'\n", "line 1: delay is missing"),
        ("kind = 'slow_fsync'\ndelay = ['2s', '1s']\n", "line 3: delay must be a time"),
        ("kind = 'refuse'\n", "line 1: error is missing"),
        ("kind = 'kill'\ntarget = 'leader of a'\n", "line 3: target must be a node's number"),
        ("kind = 'kill'\ntarget = 'node 1'\n", "line 3: target must be a node's number"),
        ("kind = 'kill'\ntarget = 0\n", "line 3: target must be a whole number from 1, not 0"),
        ("kind = 'kill'\ntimes = -1\nevery = '1s'\n", "line 3: times must be a whole number"),
        ("kind = 'lost_ack'\ntopic = '/1'\n", "line 3: topic must be"),
        ("target = 1\n", "line 1: kind is missing"),
    ];
    for (text, expected) in cases {
        let message = wrong(&format!("[[fault]]\n{text}"));
        assert!(message.starts_with(expected), "{text}: {message}");
    }
    assert!(wrong("fault = 3\n").starts_with("line 1: fault must be tables"));
    assert!(wrong("[[fault]\n").starts_with("line 1: "));
    assert_eq!(Plan::parse(""), Err(PlanError::Empty));
}

#[test]
fn nodes_that_are_named_must_exist() {
    let plan = Plan::parse("\n[[fault]]\nkind = 'kill'\ntarget = 4\n").unwrap();
    plan.check_nodes(4).unwrap();
    let message = plan.check_nodes(3).unwrap_err().to_string();
    assert_eq!(message, "line 2: target must be a node from 1 to 3 (see --nodes), not 4");
}
