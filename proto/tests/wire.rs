//! The wire as it was: what an agent or a client of another version relies on.
//!
//! `proto/wire.txt` has a line for each field, enum value and method. A line that is gone or different is
//! an incompatible change. A new line is a compatible one, and is written down by running this test with
//! `UPDATE_WIRE=1`.

use std::collections::BTreeSet;
use std::path::Path;

use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet, ServiceDescriptorProto,
};

fn field(of: &str, field: &FieldDescriptorProto) -> String {
    let kind = match field.type_name() {
        "" => field.r#type().as_str_name().to_owned(),
        name => name.to_owned(),
    };
    let label = field.label().as_str_name();
    let optional = if field.proto3_optional() {
        " optional"
    } else {
        ""
    };
    format!(
        "{of}.{} = {} {kind} {label}{optional}",
        field.name(),
        field.number()
    )
}

fn message(within: &str, message: &DescriptorProto, lines: &mut BTreeSet<String>) {
    let name = format!("{within}.{}", message.name());
    lines.extend(message.field.iter().map(|one| field(&name, one)));
    for nested in &message.nested_type {
        self::message(&name, nested, lines);
    }
    for nested in &message.enum_type {
        values(&name, nested, lines);
    }
}

fn values(within: &str, of: &EnumDescriptorProto, lines: &mut BTreeSet<String>) {
    let line = |value: &prost_types::EnumValueDescriptorProto| {
        format!(
            "{within}.{}.{} = {}",
            of.name(),
            value.name(),
            value.number()
        )
    };
    lines.extend(of.value.iter().map(line));
}

fn methods(package: &str, service: &ServiceDescriptorProto, lines: &mut BTreeSet<String>) {
    lines.extend(service.method.iter().map(|method| {
        let stream = |is: bool| if is { "stream " } else { "" };
        format!(
            "{package}.{}.{}({}{}) -> {}{}",
            service.name(),
            method.name(),
            stream(method.client_streaming()),
            method.input_type(),
            stream(method.server_streaming()),
            method.output_type()
        )
    }));
}

fn file(file: &FileDescriptorProto, lines: &mut BTreeSet<String>) {
    let package = file.package();
    for one in &file.message_type {
        message(package, one, lines);
    }
    for one in &file.enum_type {
        values(package, one, lines);
    }
    for one in &file.service {
        methods(package, one, lines);
    }
}

#[test]
fn nothing_that_others_rely_on_is_gone() {
    let set = FileDescriptorSet::decode(muster_proto::DESCRIPTORS).unwrap();
    let mut now = BTreeSet::new();
    for one in set.file.iter().filter(|file| file.package() == "muster.v1") {
        file(one, &mut now);
    }
    assert!(now.len() > 100, "the descriptors have only {now:?}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("wire.txt");
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    let known: BTreeSet<String> = known.lines().map(str::to_owned).collect();
    let gone: Vec<&String> = known.difference(&now).collect();
    assert!(gone.is_empty(), "gone or changed: {gone:#?}");
    let new: Vec<&String> = now.difference(&known).collect();
    if std::env::var_os("UPDATE_WIRE").is_some() {
        let text: String = now.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(path, text).unwrap();
    } else {
        assert!(
            new.is_empty(),
            "new, to be added with UPDATE_WIRE=1: {new:#?}"
        );
    }
}
