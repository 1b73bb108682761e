//! The layout's rules. A rule that isn't here is a wish.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use syn::{spanned::Spanned, visit::Visit};

const FILE_LINES: usize = 600;
const LIB_LINES: usize = 100;
const FUNCTION_LINES: usize = 70;
const TRAIT_METHODS: usize = 12;
const LINE_LENGTH: usize = 150;
const BANNED_NAMES: &[&str] = &["utils", "util", "common", "helpers", "helper", "service", "misc", "manager"];

/// Crates from the bottom up: each may import only what stands before it.
const ORDER: &[&str] = &[
    "core",
    "proto",
    "room-engine",
    "store",
    "store-local",
    "store-scylla",
    "bus",
    "bus-nats",
    "log",
    "platform",
    "cluster",
    "accounts",
    "sync",
    "room-state",
    "client-api",
    "federation",
    "media",
    "dispatch",
    "node",
    "tests",
    "benches",
];
const SERVICES: &[&str] = &["room-state", "client-api", "federation", "media", "dispatch"];
const BACKENDS: &[&str] = &["store-local", "store-scylla", "bus-nats"];
/// Heavy dependencies and the one crate that may have them.
const HOMES: &[(&str, &str)] = &[
    ("fjall", "store-local"),
    ("scylla", "store-scylla"),
    ("async-nats", "bus-nats"),
    ("ruma-state-res", "room-engine"),
    ("ruma-signatures", "room-engine, tests"),
    ("ruma-client-api", "client-api, sync, tests"),
    ("argon2", "accounts"),
    ("clap", "node, benches"),
];

/// Asked when the test runs: checkouts that share what they build share this program, too.
fn root() -> PathBuf {
    let tests = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs the tests");
    Path::new(&tests).parent().expect("the tests stand in the workspace").to_path_buf()
}

fn files(dir: &Path, ending: &str, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a readable folder").flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && !["target", "node_modules", "generated", "clients"].contains(&name.as_str()) {
                files(&path, ending, out);
            }
        } else if name.ends_with(ending) {
            out.push(path);
        }
    }
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut paths = Vec::new();
    files(&root(), ".rs", &mut paths);
    assert!(paths.len() > 20, "the sources are found");
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(&path).expect("UTF-8"))).collect()
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn assert_none(what: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{what}:\n  {}", faults.join("\n  "));
}

fn is_test_file(path: &Path) -> bool {
    let text = relative(path);
    text.ends_with("tests.rs") || text.contains("/tests/") || text.contains("/suite") || text.starts_with("tests/")
}

#[test]
fn files_are_short_and_named_for_what_they_hold() {
    let mut faults = Vec::new();
    for (path, text) in sources() {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if BANNED_NAMES.contains(&stem.as_str()) {
            faults.push(format!("{}: a name that says nothing", relative(&path)));
        }
        let lines = text.lines().count();
        if lines > FILE_LINES {
            faults.push(format!("{}: {lines} lines", relative(&path)));
        }
        if stem == "lib" && lines > LIB_LINES {
            faults.push(format!("{}: {lines} lines in a lib.rs", relative(&path)));
        }
        if !text.starts_with("//!") {
            faults.push(format!("{}: doesn't begin by saying what it is (//!)", relative(&path)));
        }
        for (number, line) in text.lines().enumerate() {
            if line.chars().count() > LINE_LENGTH {
                faults.push(format!("{}:{}: a line of over {LINE_LENGTH} characters", relative(&path), number + 1));
            }
            if line.contains(concat!("TO", "DO")) || line.contains(concat!("FIX", "ME")) {
                faults.push(format!("{}:{}: unfinished", relative(&path), number + 1));
            }
        }
    }
    assert_none("files", &faults);
}

#[derive(Default)]
struct Shapes {
    faults: Vec<String>,
    functions: usize,
}

impl Shapes {
    fn function(&mut self, name: &syn::Ident, span: proc_macro2::Span) {
        self.functions += 1;
        let lines = span.end().line - span.start().line + 1;
        if lines > FUNCTION_LINES {
            self.faults.push(format!("line {}: {name} has {lines} lines", span.start().line));
        }
    }
}

impl<'ast> Visit<'ast> for Shapes {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig.ident, item.span());
        syn::visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig.ident, item.span());
        syn::visit::visit_impl_item_fn(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        let methods = item.items.iter().filter(|item| matches!(item, syn::TraitItem::Fn(_))).count();
        if methods > TRAIT_METHODS {
            self.faults.push(format!("trait {} has {methods} methods", item.ident));
        }
        syn::visit::visit_item_trait(self, item);
    }
}

#[test]
fn functions_and_traits_are_short_and_lib_files_only_export() {
    let mut faults = Vec::new();
    let mut functions = 0;
    for (path, text) in sources() {
        let file = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", relative(&path)));
        let mut shapes = Shapes::default();
        shapes.visit_file(&file);
        functions += shapes.functions;
        faults.extend(shapes.faults.into_iter().map(|fault| format!("{}: {fault}", relative(&path))));
        if path.ends_with("lib.rs") {
            let only_exports = file
                .items
                .iter()
                .all(|item| matches!(item, syn::Item::Mod(_) | syn::Item::Use(_) | syn::Item::Macro(_)));
            if !only_exports {
                faults.push(format!("{}: holds more than docs, modules and exports", relative(&path)));
            }
        }
    }
    assert!(functions > 100, "the functions are found");
    assert_none("shapes", &faults);
}

fn manifests() -> BTreeMap<String, toml::Table> {
    let mut paths = Vec::new();
    files(&root(), "Cargo.toml", &mut paths);
    let parse = |path: PathBuf| toml::from_str::<toml::Table>(&fs::read_to_string(path).expect("UTF-8")).expect("TOML");
    paths
        .into_iter()
        .map(parse)
        .filter_map(|table| {
            let name = table.get("package")?.get("name")?.as_str()?.strip_prefix("polity-")?.to_owned();
            Some((name, table))
        })
        .collect()
}

fn dependencies<'a>(table: &'a toml::Table, section: &str) -> BTreeSet<&'a str> {
    table.get(section).and_then(toml::Value::as_table).into_iter().flatten().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn crates_import_downwards_only_and_heavy_dependencies_have_one_home() {
    let rank = |name: &str| ORDER.iter().position(|crate_| *crate_ == name);
    let mut faults = Vec::new();
    for (name, table) in manifests() {
        let Some(own) = rank(&name) else {
            faults.push(format!("{name}: not in the order of crates"));
            continue;
        };
        for dependency in dependencies(&table, "dependencies") {
            if let Some(other) = dependency.strip_prefix("polity-") {
                if rank(other).is_none_or(|other| other >= own) {
                    faults.push(format!("{name} imports {other}, which stands above it"));
                }
                let at_the_root = matches!(name.as_str(), "node" | "tests" | "benches");
                if (BACKENDS.contains(&other) || SERVICES.contains(&other)) && !at_the_root {
                    faults.push(format!("{name} imports {other}: only node does"));
                }
            }
            if let Some((_, home)) = HOMES.iter().find(|(heavy, _)| *heavy == dependency)
                && !home.split(", ").any(|home| home == name)
            {
                faults.push(format!("{name} imports {dependency}, whose home is {home}"));
            }
        }
        let room_engine_is_pure = ["tokio", "polity-store", "rand", "getrandom"];
        if name == "room-engine" {
            let found = dependencies(&table, "dependencies").into_iter().filter(|d| room_engine_is_pure.contains(d));
            faults.extend(found.map(|d| format!("room-engine imports {d}, but is pure")));
        }
    }
    assert_none("arrows", &faults);
}

#[test]
fn every_dependency_is_declared_once_in_the_workspace() {
    let mut faults = Vec::new();
    for (name, table) in manifests() {
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (dependency, value) in table.get(section).and_then(toml::Value::as_table).into_iter().flatten() {
                if value.get("workspace").and_then(toml::Value::as_bool) != Some(true) {
                    faults.push(format!("{name}: {dependency} names a version of its own"));
                }
            }
        }
    }
    assert_none("dependencies", &faults);
}

#[test]
fn every_endpoint_links_to_the_spec() {
    let api = root().join("services/client-api/src");
    let mut faults = Vec::new();
    for (path, text) in sources() {
        let in_a_chapter = path.strip_prefix(&api).is_ok_and(|rest| rest.components().count() == 2);
        let exempt = is_test_file(&path) || path.ends_with("mod.rs") || !text.contains("pub(crate) async fn");
        if in_a_chapter
            && !exempt
            && !text.contains("https://spec.matrix.org/")
            && !text.contains("MSC")
            && !text.contains("_synapse/")
        {
            faults.push(format!("{}: no link to the spec", relative(&path)));
        }
    }
    assert_none("endpoints", &faults);
}

#[test]
fn every_metric_is_described() {
    let mut faults = Vec::new();
    let mut found = 0;
    for (path, text) in sources() {
        if is_test_file(&path) {
            continue;
        }
        for line in text.lines().filter(|line| line.contains("&str = \"polity_")) {
            let Some(name) = line.split("const ").nth(1).and_then(|rest| rest.split(':').next()) else {
                continue;
            };
            found += 1;
            let described =
                text.split("describe_").skip(1).any(|rest| rest.chars().take(200).collect::<String>().contains(name));
            if !described {
                faults.push(format!("{}: {name}", relative(&path)));
            }
        }
    }
    assert!(found > 3, "the metrics are found");
    assert_none("metrics without description", &faults);
}
