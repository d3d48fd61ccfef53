//! Manifests of declared objects.

/// A manifest of a kind such as `NetlinkRoute`; `spec` is in the flow style of YAML, without braces and without the node.
#[must_use]
pub fn of_node(node: &str, kind: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: adit.dev/v1alpha1\nkind: {kind}\nmetadata: {{ name: {name} }}\nspec: {{ node: {node}, {spec} }}\n"
    )
}
