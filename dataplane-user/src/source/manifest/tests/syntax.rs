//! Files that are not YAML, documents that are not manifests, and the envelope.

use proptest::prelude::*;

use super::*;

#[test]
fn invalid_yaml_is_reported_with_its_position() {
    for (text, line) in [
        ("a: [", "a.yaml:1:4: not valid YAML: unclosed bracket '['"),
        (
            "a:\n\t- b",
            "a.yaml:2:2: not valid YAML: tabs disallowed within this context (block indentation)",
        ),
        (
            "a: 1\na: 2",
            "a.yaml:2:1: `a` is given twice in one map; remove one of them",
        ),
        (
            "a: b: c",
            "a.yaml:1:5: not valid YAML: mapping values are not allowed in this context",
        ),
        (
            "a: *b",
            "a.yaml:1:4: not valid YAML: alias references unknown anchor",
        ),
        ("? [a]\n: b", "a.yaml:1:3: not valid YAML: expected string scalar"),
        ("a: 'x", "a.yaml:1:4: not valid YAML: unclosed quote"),
    ] {
        rejected(text, &[line]);
    }
}

#[test]
fn documents_that_are_no_manifests_differ_from_empty_ones() {
    for empty in ["", "\n", "---\n---\n# nothing\n", "null", "---\n...\n"] {
        assert_eq!(read_one(empty), Ok(Resources::default()), "{empty:?}");
    }
    for (text, lines) in [
        ("- 1", &["a.yaml:1:1: expected a map, found a list"][..]),
        ("---\ntext", &["a.yaml:2:1: expected a map, found text"]),
        (
            "a: 1",
            &[
                "a.yaml:1:1: apiVersion: missing; give `adit.dev/v1alpha1`",
                "a.yaml:1:1: kind: missing; give the kind of the resource",
            ],
        ),
        (
            "apiVersion: v1\nkind: Secret",
            &[
                "a.yaml:1:13: apiVersion: unknown version `v1`; expected `adit.dev/v1alpha1`",
                "a.yaml:2:7: kind: unknown kind `Secret`; known: TunnelNetwork, TunnelNode, WireGuardInterface, WireGuardNetworkPlan, NetlinkInterface, NetlinkRoute, NetlinkRule",
            ],
        ),
        (
            "apiVersion: adit.dev/v1alpha1\nkind: Mesh\nspec: {}",
            &[
                "a.yaml:2:7: kind: unknown kind `Mesh`; known: TunnelNetwork, TunnelNode, WireGuardInterface, WireGuardNetworkPlan, NetlinkInterface, NetlinkRoute, NetlinkRule",
            ],
        ),
        (
            "apiVersion: adit.dev/v1alpha1\nkind: TunelNode",
            &[
                "a.yaml:2:7: kind: unknown kind `TunelNode`; did you mean `TunnelNode`? known: TunnelNetwork, TunnelNode, WireGuardInterface, WireGuardNetworkPlan, NetlinkInterface, NetlinkRoute, NetlinkRule",
            ],
        ),
        (
            "apiVersion: adit.dev/v1alpha1\nkind: TunnelNode\nspec: 1",
            &[
                "a.yaml:1:1: metadata: missing; give `metadata.name`",
                "a.yaml:3:7: spec: expected a map, found an integer",
            ],
        ),
    ] {
        rejected(text, lines);
    }
}

#[test]
fn all_errors_of_a_document_are_reported_in_order() {
    rejected(
        "apiVersion: adit.dev/v1alpha1\nkind: TunnelNode\nmetadata: {labels: {a: 1}, name: A, nam: b}\nspec: {}\nextra: 1",
        &[
            "a.yaml:3:24: metadata.labels.a: expected text, found an integer; put it in quotes",
            "a.yaml:3:34: metadata.name: `A` is not a valid name: lower-case letters, digits, `-` and `.`, beginning and ending with a letter or digit",
            "a.yaml:3:37: metadata.nam: unknown field; did you mean `name`?",
            "a.yaml:4:7: spec.addresses: missing; give the overlay addresses of the node",
            "a.yaml:4:7: spec.network: missing; give the name of a TunnelNetwork, or a list of names",
            "a.yaml:4:7: spec.underlay: missing; give `ipv4`, `ipv6` or both",
            "a.yaml:5:1: extra: unknown field; known: apiVersion, kind, metadata, spec, status",
        ],
    );
}

#[test]
fn items_of_a_list_are_reported_with_their_position() {
    let item = "apiVersion: adit.dev/v1alpha1\n  kind: TunnelNetwork\n  metadata: {name: x}";
    rejected(
        &format!("apiVersion: v1\nkind: List\nitems:\n- 3\n- {item}\n  spec: {{prefixes: [10.0.0.1/8]}}\n"),
        &[
            "a.yaml:4:3: items[0]: expected a map, found an integer",
            "a.yaml:8:21: items[1].spec.prefixes[0]: `10.0.0.1/8` has host bits set; write `10.0.0.0/8`",
        ],
    );
}

#[test]
fn files_are_distinguished_and_keep_the_given_order() {
    let file = |name: &str, text: &str| ManifestFile {
        name: name.into(),
        text: text.to_owned(),
    };
    let errors = read(
        &[file("z.yaml", "- 1"), file("b.yaml", "a: ["), file("c.yaml", "1")],
        true,
    );
    let lines = errors
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>();
    assert_eq!(
        lines,
        [
            "z.yaml:1:1: expected a map, found a list",
            "b.yaml:1:4: not valid YAML: unclosed bracket '['",
            "c.yaml:1:1: expected a map, found an integer",
        ]
    );
}

#[test]
fn an_error_is_one_line_of_plain_text() {
    rejected(
        &format!("{NETWORK}  \"a\\nb\\e[1m\": 1\n  allDown: \"x\\ny\"\n"),
        &[
            "a.yaml:7:3: spec.a\\nb\\u{1b}[1m: unknown field; known: prefixes, encapsulation, dataplane, routes, vni, ports, underlayFamily, mtu, sourceProtection, health, allDown, ttl, dscp, df, udpChecksum, masquerade, firewall",
            "a.yaml:8:12: spec.allDown: unknown value `x\\ny`; known: unreachable, keep",
        ],
    );
}

/// Parts of manifests, so that random text passes the parser.
fn scrap() -> impl Strategy<Value = String> {
    let words = [
        "apiVersion: adit.dev/v1alpha1\n",
        "kind: TunnelNode\n",
        "kind: TunnelNetwork\n",
        "kind: List\n",
        "metadata: {name: a}\n",
        "spec:\n",
        "  prefixes: [10.0.0.0/8, ::/0]\n",
        "  network: a\n",
        "---\n",
        "  ",
        "  underlay: {ipv4: 192.0.2.1}\n",
        "  addresses: [10.0.0.1]\n",
        "  dscp: ",
        "&x ",
        "*x",
        "<<: ",
        "[",
        "]",
        "{",
        "}",
        "- ",
        ": ",
        "\t",
        "\n",
        "'",
        "\"",
        "|\n",
        "-1",
        "255",
        "1e999",
        "~",
        "!!binary ",
        "\u{feff}",
        "ü",
        "  health: {bfd: {interval: 5s}}\n",
        "  wireguard: {endpoint: 'a:1', publicKey: ",
        "18446744073709551616",
    ];
    prop_oneof![
        8 => prop::sample::select(words.to_vec()).prop_map(str::to_owned),
        1 => "\\PC{0,8}",
    ]
}

proptest! {
    #[test]
    fn no_input_panics(text in "\\PC*", scraps in prop::collection::vec(scrap(), 0..40)) {
        for text in [text, scraps.concat(), format!("{NETWORK}{}", scraps.concat()), format!("{NETWORK}{NODE}  {}", scraps.concat())] {
            for line in errors(&text) {
                prop_assert!(!line.contains('\n'), "{line:?}");
            }
        }
    }

    #[test]
    fn values_do_not_panic(value in "\\PC{0,60}") {
        let quoted = serde_json::to_string(&value).unwrap();
        for field in ["dscp", "prefixes", "ports", "mtu", "health", "masquerade", "firewall"] {
            errors(&format!("{NETWORK}  {field}: {quoted}\n"));
        }
        errors(&format!(
            "{NETWORK}{NODE}  prefixes: [{quoted}]\n  wireguard: {{publicKey: {quoted}, endpoint: {quoted}, keepalive: {quoted}}}\n"
        ));
        errors(&format!("{NETWORK}  health: {{bfd: {{interval: {quoted}}}}}\n"));
    }
}
