//! Boundary pairs of the meters that an SQL guest consumes.

use std::fmt::Write as _;

use stockade_policies::Meter;
use stockade_runtime::{Class, HostDatabase, Layer};
use tempfile::TempDir;

use crate::boundaries::Pair;
use crate::support::{repeated, sql};

/// A page of a new database.
const PAGE: u64 = 4096;

pub fn pairs() -> Vec<Pair> {
    let mut pairs = of_text();
    pairs.extend(of_values());
    pairs.extend(of_terms());
    pairs.extend(of_columns());
    pairs.extend(of_nesting());
    pairs.extend(of_schemas());
    pairs.extend(of_functions());
    pairs.extend(of_results());
    pairs.extend(of_resources());
    pairs.push(attached());
    pairs
}

fn pair(meter: Meter, name: &'static str, most: u64, at: impl AsRef<str>, past: impl AsRef<str>) -> Pair {
    let class = *Class::ALL
        .iter()
        .find(|class| class.meters().contains(&meter))
        .expect("a meter has its class");
    let class = match meter {
        Meter::ReturnRows | Meter::ReturnBytes => Class::Truncated,
        _ => class,
    };
    let layer = match meter {
        Meter::LoadGuest | Meter::SqlSqlLength => Layer::Screen,
        Meter::ReturnRows | Meter::ReturnBytes | Meter::GrowDatabase => Layer::Quota,
        Meter::GrowHeap => Layer::Heap,
        Meter::Elapse => Layer::Deadline,
        _ => Layer::Limits,
    };
    Pair {
        meter,
        name,
        most,
        at: sql(at.as_ref()),
        past: sql(past.as_ref()),
        class,
        layer,
        stage: None,
    }
}

/// A statement of exactly so many bytes.
fn of_length(bytes: usize) -> String {
    format!("select 1{}", " ".repeat(bytes - "select 1".len()))
}

fn of_text() -> Vec<Pair> {
    use Meter as M;
    let two = |bytes: usize| format!("select 1;{}", of_length(bytes - 9));
    vec![
        pair(M::LoadGuest, "script", 20, of_length(20), of_length(21)),
        pair(M::SqlSqlLength, "one_statement", 50, of_length(50), of_length(51)),
        pair(
            M::SqlSqlLength,
            "shorter_than_the_hosts_own",
            10,
            of_length(10),
            of_length(11),
        ),
        // A statement and what follows it in the script.
        pair(M::SqlSqlLength, "two_statements", 50, two(50), two(51)),
    ]
}

fn of_values() -> Vec<Pair> {
    use Meter as M;
    let literal = |bytes| format!("select '{}' as n", "a".repeat(bytes));
    let joined = |bytes: usize| format!("select '{}' || 'b' as n", "a".repeat(bytes - 1));
    let name = |bytes| format!("select 1 as {}", "n".repeat(bytes));
    vec![
        pair(M::SqlLength, "column_name", 1000, name(1000), name(1001)),
        pair(M::SqlLength, "literal", 1000, literal(1000), literal(1001)),
        pair(M::SqlLength, "least_that_sqlite_enforces", 30, literal(30), literal(31)),
        pair(M::SqlLength, "concatenation", 1000, joined(1000), joined(1001)),
        pair(
            M::SqlLength,
            "zeroblob",
            1000,
            "select zeroblob(1000)",
            "select zeroblob(1001)",
        ),
        pair(
            M::SqlLength,
            "randomblob",
            1000,
            "select randomblob(1000)",
            "select randomblob(1001)",
        ),
        pair(
            M::SqlLikePatternLength,
            "like",
            5,
            "select 'x' like 'aaaaa'",
            "select 'x' like 'aaaaaa'",
        ),
        pair(
            M::SqlLikePatternLength,
            "glob",
            5,
            "select 'x' glob 'aaaaa'",
            "select 'x' glob 'aaaaaa'",
        ),
    ]
}

fn of_terms() -> Vec<Pair> {
    use Meter as M;
    let compound = |terms| repeated(terms, "select 1", " union all ");
    vec![
        pair(M::SqlCompoundSelect, "union", 3, compound(3), compound(4)),
        pair(M::SqlCompoundSelect, "none_but_plain", 1, compound(1), compound(2)),
        pair(M::SqlFunctionArg, "two", 2, "select max(1, 2)", "select max(1, 2, 3)"),
        pair(M::SqlFunctionArg, "none", 0, "select 1", "select abs(1)"),
        pair(M::SqlVariableNumber, "numbered", 3, "select ?3", "select ?4"),
        pair(
            M::SqlVariableNumber,
            "counted",
            3,
            "select ?, ?, ?",
            "select ?, ?, ?, ?",
        ),
        pair(
            M::SqlVariableNumber,
            "named",
            2,
            "select :a, :b, :a",
            "select :a, :b, :c",
        ),
        pair(M::SqlVariableNumber, "none", 0, "select 1", "select ?"),
    ]
}

fn of_columns() -> Vec<Pair> {
    use Meter as M;
    let result = |columns| format!("select {}", repeated(columns, "1", ", "));
    let names = |columns| {
        (0..columns)
            .map(|column| format!("c{column}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let table = |columns| format!("create table t({})", names(columns));
    let index = |columns| {
        format!(
            "create table t(c0); create index i on t({})",
            repeated(columns, "c0", ", ")
        )
    };
    let order = |columns| format!("create table t(c0); select 1 from t order by {}", terms("c0", columns));
    let group = |columns| format!("create table t(c0); select 1 from t group by {}", terms("c0", columns));
    let sums = |columns| format!("create table t(c0); select {} from t", sums_of("c0", columns));
    vec![
        pair(M::SqlColumn, "result", 5, result(5), result(6)),
        pair(M::SqlColumn, "table", 5, table(5), table(6)),
        pair(M::SqlColumn, "index", 5, index(5), index(6)),
        pair(M::SqlColumn, "order_by", 5, order(5), order(6)),
        pair(M::SqlColumn, "group_by", 5, group(5), group(6)),
        // SQLite lets one aggregate term more pass than it says.
        pair(M::SqlColumn, "aggregate_terms", 5, sums(5), sums(7)),
    ]
}

/// So many different terms over one column.
fn terms(column: &str, count: usize) -> String {
    (0..count)
        .map(|number| format!("{column} + {number}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// So many different aggregates in one result column.
fn sums_of(column: &str, count: usize) -> String {
    (0..count)
        .map(|number| format!("sum({column} + {number})"))
        .collect::<Vec<_>>()
        .join(" + ")
}

fn of_nesting() -> Vec<Pair> {
    use Meter as M;
    let sum = |depth| format!("select {}", repeated(depth, "1", " + "));
    // Views of which each reads the one before it.
    let views = |count: usize| {
        let later: String = (1..count)
            .map(|number| format!("create view v{number} as select x from v{};", number - 1))
            .collect();
        format!("create view v0 as select 1 as x; {later} select x from v{}", count - 1)
    };
    let brackets = |depth: usize| format!("select {}1{}", "(".repeat(depth), ")".repeat(depth));
    let constants = |count: usize| {
        let numbers: Vec<String> = (0..count).map(|number| number.to_string()).collect();
        format!("select {}", numbers.join(", "))
    };
    vec![
        pair(M::SqlExprDepth, "sum", 5, sum(5), sum(6)),
        // The query itself is a level as well.
        pair(M::SqlExprDepth, "views", 5, views(4), views(5)),
        // SQLite's parser has room for fifty; a bound is exact beyond that.
        pair(M::SqlParserDepth, "brackets", 60, brackets(53), brackets(54)),
        // SQLite doubles the room for a program from 42 on, so 84 is a bound that a program can reach: with four
        // instructions around the constants.
        pair(M::SqlVdbeOp, "constants", 84, constants(80), constants(81)),
    ]
}

/// Tables of which each but the last has a trigger that writes to the next.
fn chain(triggers: usize) -> String {
    let mut script = "create table t0(x);".to_owned();
    for from in 0..triggers {
        let to = from + 1;
        write!(
            script,
            "create table t{to}(x); create trigger r{from} after insert on t{from} \
             begin insert into t{to} values (new.x); end;"
        )
        .unwrap();
    }
    script + "insert into t0 values (1);"
}

fn of_schemas() -> Vec<Pair> {
    use Meter as M;
    let steps = |count| {
        format!(
            "create table t(x); create table u(x); create trigger r after insert on t begin {} end",
            repeated(count, "insert into u values (1);", " ")
        )
    };
    let tables = |count: usize| {
        (0..count)
            .map(|number| format!("create table t{number}(x);"))
            .collect::<String>()
    };
    let kinds = "create table t(x); create index i on t(x); create view v as select x from t;\
                 create trigger r after insert on t begin delete from t; end;";
    vec![
        pair(M::SqlTriggerDepth, "chain", 2, chain(2), chain(3)),
        pair(M::SqlTriggerDepth, "none", 0, chain(0), chain(1)),
        pair(M::SqlTriggerSteps, "two", 2, steps(2), steps(3)),
        pair(M::SqlTriggerSteps, "none", 0, "create table t(x)", steps(1)),
        pair(M::SqlSchema, "tables", 4, tables(4), tables(5)),
        pair(
            M::SqlSchema,
            "all_kinds",
            4,
            kinds,
            format!("{kinds} create table one_more(x);"),
        ),
        pair(M::SqlSchema, "none", 0, "select 1", tables(1)),
    ]
}

fn of_functions() -> Vec<Pair> {
    use Meter as M;
    let instr = |bytes: usize| format!("select instr(zeroblob({bytes}), zeroblob(10))");
    let trim = |bytes: usize| format!("select trim('{}', 'b')", "a".repeat(bytes));
    vec![
        pair(M::SqlFunctionSteps, "product", 1000, instr(100), instr(101)),
        // A character takes as long as sixteen bytes in a row.
        pair(M::SqlFunctionSteps, "characters", 160, trim(10), trim(11)),
        pair(
            M::SqlFunctionSteps,
            "none",
            0,
            "select instr(null, 'a')",
            "select instr('a', 'a')",
        ),
    ]
}

fn of_results() -> Vec<Pair> {
    use Meter as M;
    vec![
        pair(
            M::ReturnRows,
            "one_statement",
            3,
            "values (1), (2), (3)",
            "values (1), (2), (3), (4)",
        ),
        pair(
            M::ReturnRows,
            "all_statements",
            3,
            "values (1), (2); select 3",
            "values (1), (2); values (3), (4)",
        ),
        pair(M::ReturnRows, "none", 0, "select 1 where 0", "select 1"),
        // The name of the column counts.
        pair(
            M::ReturnBytes,
            "text",
            9,
            "select 'abcdefgh' as n",
            "select 'abcdefghi' as n",
        ),
        pair(
            M::ReturnBytes,
            "all_statements",
            10,
            "select 'abcd' as n; select 'abcd' as n",
            "select 'abcd' as n; select 'abcde' as n",
        ),
        pair(
            M::ReturnBytes,
            "names_without_rows",
            9,
            "select 1 as a23456789 where 0",
            "select 1 as a234567890 where 0",
        ),
    ]
}

fn of_resources() -> Vec<Pair> {
    use Meter as M;
    let tables = |count: usize| {
        (0..count)
            .map(|number| format!("create table t{number}(x);"))
            .collect::<String>()
    };
    vec![
        // Every table is a page, and so is the schema.
        pair(M::GrowDatabase, "in_memory", 8 * PAGE, tables(7), tables(8)),
        pair(M::GrowDatabase, "nothing", PAGE - 1, "select 1", tables(1)),
        // SQLite itself takes a part of the heap, so the pair stands a mebibyte off on either side.
        pair(
            M::GrowHeap,
            "random_bytes",
            4 << 20,
            "select length(randomblob(3 << 20))",
            "select length(randomblob(5 << 20))",
        ),
        // A clock has no "one past": the guest beyond it counts for many times as long.
        pair(
            M::Elapse,
            "counting",
            500,
            "select 1",
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000000) select count(*) from n",
        ),
    ]
}

fn attached() -> Pair {
    let stage = TempDir::new().unwrap();
    let attach = |number: usize| {
        let path = stage.path().join(format!("{number}.db"));
        HostDatabase::open(&path)
            .and_then(|database| database.execute("create table t(x)"))
            .unwrap();
        format!("attach '{}' as d{number};", path.display())
    };
    let (first, second) = (attach(1), attach(2));
    let mut pair = pair(
        Meter::SqlAttached,
        "two_files",
        1,
        format!("{first} select count(*) from d1.t;"),
        first.clone() + &second,
    );
    pair.stage = Some(stage);
    pair
}
