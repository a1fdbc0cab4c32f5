//! What is read, what is refused, and which rule holds where.

use super::*;

fn rules(list: &[&str]) -> Rules {
    Rules::read(list).unwrap_or_else(|why| panic!("{list:?}: {why}"))
}

fn at(rules: &Rules, path: &[&str]) -> Option<String> {
    let place = path.iter().fold(rules.top(), |place, name| place.enter(name));
    place.rule().map(|rule| rule.to_string())
}

#[test]
fn every_rule_is_read_and_written() {
    let list = [
        "=three-way:last-write",
        "/=min",
        "/a~1b~0=max",
        "/größe=sum",
        "/items=union",
        "/k=v=last-write",
        "/*=three-way:union",
        "/items/*/qty=max",
    ];
    let read = rules(&list);
    assert_eq!(read.text().lines().collect::<Vec<_>>(), list, "already in order");
    let mut turned = list;
    turned.reverse();
    assert_eq!(rules(&turned), read);
    assert_eq!(at(&read, &["a/b~"]).as_deref(), Some("max"));
    assert_eq!(at(&read, &["k=v"]).as_deref(), Some("last-write"));
    assert_eq!(at(&read, &[""]).as_deref(), Some("min"));
    let slot = slot::filled(&read);
    assert_eq!(slot::read(|n| slot[n]), Ok(read));
    assert_eq!(slot::read(|n| slot::empty()[n]), Ok(Rules::default()));
    assert!(slot::read(|_| 0xff).is_err());
}

#[test]
fn the_most_specific_pointer_wins() {
    let read = rules(&["/*/*=union", "/*/b=max", "/a/*=min", "/a/c=sum"]);
    let rule = |path: [&str; 2]| at(&read, &path).expect("a rule");
    assert_eq!(rule(["x", "y"]), "union");
    assert_eq!(rule(["x", "b"]), "max");
    assert_eq!(rule(["a", "b"]), "min", "the earlier name counts");
    assert_eq!(rule(["a", "c"]), "sum");
    assert_eq!(at(&read, &["a"]), None);
    assert_eq!(at(&read, &["a", "c", "d"]), None);
}

#[test]
fn what_is_wrong_is_refused_with_its_reason() {
    let deep = "/a".repeat(DEPTH_MAX + 1) + "=max";
    let bad: [(&[&str], &str); 16] = [
        (&["/items"], "POINTER=RULE, such as"),
        (&["/items=onion"], "no rule is called `onion`: there are union, max"),
        (&["/items="], "no rule is called ``"),
        (&["items=union"], "begins with `/`: `/items`?"),
        (&["/a~2=max"], "`~` is written `~0`"),
        (&["/a~=max"], "`~` is written `~0`"),
        (&["/a\n=max"], "control characters"),
        (&["/a=three-way"], "such as three-way:last-write"),
        (&["/a=three-way:sum"], "behind three-way"),
        (&["=sum"], "sum needs a path"),
        (&["/a=max", "/b=max", "/a=min"], "`/a=max` and `/a=min` are two rules for one path"),
        (&["/a=max", "/a=max"], "two rules for one path"),
        (&["/a=last-write", "/a/b=max"], "`/a/b=max` stands below `/a=last-write`"),
        (&["/*=last-write", "/a/b=max"], "stands below `/*=last-write`"),
        (&["/*/b=sum", "/*/b/c=union"], "stands below `/*/b=sum`"),
        (&[&deep], "33 members deep, and a document has at most 32"),
    ];
    for (list, says) in bad {
        let why = Rules::read(list).expect_err(says).to_string();
        assert!(why.contains(says), "{list:?}: {why}");
    }
    let many = (0..200).map(|n| format!("/a member with a name of its own, {n}=max"));
    let why = Rules::read(many).expect_err("too long").to_string();
    assert!(why.contains("has room for 4076"), "{why}");
}

#[test]
fn a_rule_may_stand_below_what_goes_on_below() {
    rules(&["=last-write", "/a=union", "/a/b=max", "/c=three-way:min", "/c/d=sum"]);
    rules(&["/*=last-write", "/a=union", "/a/b=max"]);
    let read = rules(&["/a=sum", "/*/b=max"]);
    let place = read.top().enter("a");
    assert!(place.takes_whole() && place.is_lowest(), "the other is for other places");
    assert!(!read.top().enter("x").is_lowest());
}
