//! OpenAPI 3.1 into 3.0: the differences between JSON Schema 2020-12 and the older dialect that our documents use.

use serde_json::{Map, Value, json};

pub(super) fn to_3_0(mut document: Value) -> Value {
    document["openapi"] = json!("3.0.3");
    if let Some(info) = document.pointer_mut("/info/license").and_then(Value::as_object_mut) {
        info.remove("identifier");
    }
    rewrite(&mut document);
    document
}

fn rewrite(value: &mut Value) {
    match value {
        Value::Object(object) => {
            rewrite_schema(object);
            object.values_mut().for_each(rewrite);
        }
        Value::Array(items) => items.iter_mut().for_each(rewrite),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn rewrite_schema(schema: &mut Map<String, Value>) {
    nullable_type(schema);
    nullable_alternative(schema);
    if let Some(constant) = schema.remove("const") {
        schema.insert("enum".to_owned(), json!([constant]));
    }
    // In a schema `examples` is a list and 3.0 knows only `example`; in a media type it is an object and may stay.
    if let Some(Value::Array(examples)) = schema.get("examples").cloned() {
        schema.remove("examples");
        if let Some(first) = examples.into_iter().next() {
            schema.entry("example").or_insert(first);
        }
    }
    for (exclusive, bound) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")] {
        if let Some(limit) = schema.get(exclusive).filter(|limit| limit.is_number()).cloned() {
            schema.insert(bound.to_owned(), limit);
            schema.insert(exclusive.to_owned(), json!(true));
        }
    }
    schema.remove("propertyNames");
}

/// `type: [T, "null"]` → `type: T, nullable: true`.
fn nullable_type(schema: &mut Map<String, Value>) {
    let Some(Value::Array(types)) = schema.get("type").cloned() else { return };
    let mut kept: Vec<Value> = types.iter().filter(|name| *name != "null").cloned().collect();
    if kept.len() < types.len() {
        schema.insert("nullable".to_owned(), json!(true));
    }
    match kept.len() {
        1 => drop(schema.insert("type".to_owned(), kept.remove(0))),
        _ => {
            schema.remove("type");
            if !kept.is_empty() {
                schema.insert("anyOf".to_owned(), kept.into_iter().map(|name| json!({ "type": name })).collect());
            }
        }
    }
}

/// `oneOf: [{type: "null"}, S]` → `allOf: [S], nullable: true`.
fn nullable_alternative(schema: &mut Map<String, Value>) {
    for keyword in ["oneOf", "anyOf"] {
        let Some(Value::Array(alternatives)) = schema.get(keyword).cloned() else { continue };
        let kept: Vec<Value> = alternatives.iter().filter(|alternative| alternative["type"] != "null").cloned().collect();
        if kept.len() == alternatives.len() {
            continue;
        }
        schema.remove(keyword);
        schema.insert("nullable".to_owned(), json!(true));
        schema.insert(if kept.len() == 1 { "allOf".to_owned() } else { keyword.to_owned() }, Value::Array(kept));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::nullable(json!({"type": ["string", "null"]}), json!({"type": "string", "nullable": true}))]
    #[case::nullable_reference(json!({"oneOf": [{"type": "null"}, {"$ref": "#/x"}]}), json!({"allOf": [{"$ref": "#/x"}], "nullable": true}))]
    #[case::constant(json!({"const": "Bearer"}), json!({"enum": ["Bearer"]}))]
    #[case::examples(json!({"type": "string", "examples": ["a", "b"]}), json!({"type": "string", "example": "a"}))]
    #[case::exclusive(json!({"exclusiveMinimum": 0}), json!({"minimum": 0, "exclusiveMinimum": true}))]
    #[case::nested(json!({"properties": {"a": {"type": ["integer", "null"]}}}), json!({"properties": {"a": {"type": "integer", "nullable": true}}}))]
    fn each_difference_is_bridged(#[case] new: Value, #[case] old: Value) {
        let mut schema = new;
        rewrite(&mut schema);
        assert_eq!(schema, old);
    }
}
