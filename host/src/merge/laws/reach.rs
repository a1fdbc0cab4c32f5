//! How much of a module's code a check reached: a copy of the component that tells.
//!
//! Instances in a component show nothing of their insides, and what a module imports cannot be
//! added to without rebuilding the component around it. So the copy answers through the one door
//! that it has: its `resolve` runs as ever, each block of code that it enters setting a bit in
//! globals that only it knows, and then gives the bits as the merged *value*. Where the answer
//! lies in memory is the component model's affair (`resolution` in `wit/merge.wit` by the canonical
//! ABI), the same for every compiler. What `cabi_post` would free is no longer what the module
//! allocated, so nothing is freed; the instance ends with the call anyway.
//!
//! A block begins at the start of a function and wherever a branch may lead or pass. The copy has
//! about twice the code, and calls of it about double a check, so only `stator module test` makes
//! one. Calls that trap give no bits.
//!
//! # Left out
//! Components within components, and those of several core modules with a resolver. How much of
//! the code *could* be reached: panics and formatting are part of the whole.

use std::fmt;
use std::ops::Range;

use wasmparser::{
    CompositeInnerType, ExternalKind, FunctionBody, Operator, Parser, Payload, TypeRef,
};

/// What ends the name of the function that merges.
const RESOLVE: &str = "#resolve";
const RESOLVER: &str = "stator:merge/resolver@";
const POST: &str = "cabi_post_";
/// Bits of a global.
const BITS: u32 = u64::BITS;
const PAGE_BYTES: u32 = 64 << 10;

/// A component whose merges give, instead of a value, a bit for each block of its code.
pub(super) struct Telling {
    /// The component.
    pub(super) component: Vec<u8>,
    /// Its blocks; those of an answer are little-endian bits.
    pub(super) blocks: u32,
}

/// Makes the copy, or says why there is none.
pub(super) fn telling(component: &[u8]) -> Result<Telling, String> {
    let core = core_of(component)?;
    let bytes = component.get(core.clone()).ok_or("it is cut off")?;
    let module = Module::read(bytes)?;
    let (rewritten, blocks) = module.rewritten()?;
    let header = 1 + leb(core.len() as u64).len();
    let start = core.start.checked_sub(header).filter(|at| component[*at] == CORE_MODULE);
    let start = start.ok_or("its sections are laid out unusually")?;
    let mut copy = component[..start].to_vec();
    section(CORE_MODULE, &rewritten, &mut copy);
    copy.extend_from_slice(&component[core.end..]);
    Ok(Telling { component: copy, blocks })
}

/// How much of a module's code the merges of a check reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// Blocks of code in the module, those of panics and formatting included.
    pub blocks: u32,
    /// Merges that told what they reached.
    pub merges: u64,
    /// Of these, how many until the last block that none before had reached.
    pub last_new: u64,
    bits: Vec<u8>,
}

impl Reach {
    pub(super) fn of(blocks: u32) -> Self {
        Reach { blocks, merges: 0, last_new: 0, bits: Vec::new() }
    }

    /// Blocks that were reached.
    pub fn reached(&self) -> u32 {
        self.bits.iter().map(|byte| byte.count_ones()).sum()
    }

    /// Takes what one merge reached.
    pub(super) fn add(&mut self, bits: &[u8]) {
        self.merges += 1;
        let before = self.reached();
        self.bits.resize(self.bits.len().max(bits.len()), 0);
        self.bits.iter_mut().zip(bits).for_each(|(known, new)| *known |= new);
        if self.reached() > before {
            self.last_new = self.merges;
        }
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (reached, blocks, merges) = (self.reached(), self.blocks, self.merges);
        write!(
            f,
            "{reached} of the module's {blocks} blocks of code reached, the last of them after {} \
             of {merges} merges",
            self.last_new
        )
    }
}

const CORE_MODULE: u8 = 1;
const FUNCTIONS: u8 = 3;
const GLOBALS: u8 = 6;
const EXPORTS: u8 = 7;
const CODE: u8 = 10;

/// Where in the component the one core module with the resolver is.
fn core_of(component: &[u8]) -> Result<Range<usize>, String> {
    let (mut modules, mut depth, mut found) = (Vec::new(), 0, Vec::new());
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(|error| error.to_string())? {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ModuleSection { unchecked_range, .. } if depth == 1 => {
                modules.push(unchecked_range.start..unchecked_range.end);
            }
            Payload::ExportSection(exports) if depth == 2 => {
                for export in exports {
                    let export = export.map_err(|error| error.to_string())?;
                    if is_resolve(export.name) {
                        found.extend(modules.last().cloned());
                    }
                }
            }
            _ => {}
        }
    }
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err("none of its core modules is the resolver".to_owned()),
        _ => Err("several of its core modules are resolvers".to_owned()),
    }
}

fn is_resolve(name: &str) -> bool {
    name.starts_with(RESOLVER) && name.ends_with(RESOLVE)
}

/// What is to be known of a core module.
struct Module<'a> {
    bytes: &'a [u8],
    /// Parameters of each type, if it is one of a function.
    types: Vec<usize>,
    /// The type of each function, imported ones first.
    functions: Vec<u32>,
    imported_functions: usize,
    globals: u32,
    imported_globals: u32,
    exports: Vec<(&'a str, ExternalKind, u32)>,
    bodies: Vec<FunctionBody<'a>>,
}

impl<'a> Module<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let mut module = Module {
            bytes,
            types: Vec::new(),
            functions: Vec::new(),
            imported_functions: 0,
            globals: 0,
            imported_globals: 0,
            exports: Vec::new(),
            bodies: Vec::new(),
        };
        for payload in Parser::new(0).parse_all(bytes) {
            let taken = payload.and_then(|payload| module.take(payload));
            taken.map_err(|error| error.to_string())?;
        }
        Ok(module)
    }

    fn take(&mut self, payload: Payload<'a>) -> wasmparser::Result<()> {
        match payload {
            Payload::TypeSection(groups) => {
                for group in groups {
                    for sub in group?.into_types() {
                        self.types.push(match sub.composite_type.inner {
                            CompositeInnerType::Func(function) => function.params().len(),
                            _ => 0,
                        });
                    }
                }
            }
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    match import?.ty {
                        TypeRef::Func(of) => self.functions.push(of),
                        TypeRef::Global(_) => self.imported_globals += 1,
                        _ => {}
                    }
                }
                self.imported_functions = self.functions.len();
            }
            Payload::FunctionSection(functions) => {
                for of in functions {
                    self.functions.push(of?);
                }
            }
            Payload::GlobalSection(globals) => self.globals = globals.count(),
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    self.exports.push((export.name, export.kind, export.index));
                }
            }
            Payload::CodeSectionEntry(body) => self.bodies.push(body),
            _ => {}
        }
        Ok(())
    }

    /// The function of an export.
    fn exported(&self, is_it: impl Fn(&str) -> bool) -> Option<u32> {
        let mut functions = self.exports.iter().filter(|(_, kind, _)| *kind == ExternalKind::Func);
        functions.find(|(name, ..)| is_it(name)).map(|(.., index)| *index)
    }

    /// The module that tells, and how many blocks it has.
    fn rewritten(&self) -> Result<(Vec<u8>, u32), String> {
        let resolve = self.exported(is_resolve).ok_or("it exports no resolver")?;
        let post = self.exported(|name| name.strip_prefix(POST).is_some_and(is_resolve));
        let of = |function: u32| {
            self.functions.get(function as usize).copied().ok_or("a function without a type")
        };
        if self.globals == 0 {
            return Err("it has no globals of its own".to_owned());
        }
        let first_global = self.imported_globals + self.globals;
        let mut marks = Marks { first_global, blocks: 0 };
        let mut bodies = Vec::new();
        for body in &self.bodies {
            let marked = marks.marked(self.bytes, body).map_err(|error| error.to_string())?;
            bodies.push(marked);
        }
        let parameters = self.types.get(of(resolve)? as usize).copied().unwrap_or_default();
        bodies.push(marks.telling(resolve, parameters));
        let mut added = vec![of(resolve)?];
        if let Some(post) = post {
            added.push(of(post)?);
            // No locals, nothing done.
            bodies.push(vec![0, END]);
        }
        let telling = self.functions.len() as u32;
        let renumbered = |name: &str, index: u32| match index {
            _ if is_resolve(name) => telling,
            _ if name.strip_prefix(POST).is_some_and(is_resolve) => telling + 1,
            index => index,
        };
        self.written(&added, &marks, &bodies, &renumbered).map(|bytes| (bytes, marks.blocks))
    }

    fn written(
        &self,
        added: &[u32],
        marks: &Marks,
        bodies: &[Vec<u8>],
        renumbered: &dyn Fn(&str, u32) -> u32,
    ) -> Result<Vec<u8>, String> {
        const HEADER_BYTES: usize = 8;
        let mut written = self.bytes[..HEADER_BYTES].to_vec();
        for payload in Parser::new(0).parse_all(self.bytes) {
            let payload = payload.map_err(|error| error.to_string())?;
            let Some((id, range)) = payload.as_section() else { continue };
            let raw = &self.bytes[range.start..range.end];
            let mut content = Vec::new();
            match id {
                FUNCTIONS => {
                    let own = &self.functions[self.imported_functions..];
                    content.extend(leb((own.len() + added.len()) as u64));
                    own.iter().chain(added).for_each(|of| content.extend(leb((*of).into())));
                }
                GLOBALS => {
                    let count = leb(self.globals.into()).len();
                    content.extend(leb((self.globals + marks.globals()).into()));
                    content.extend_from_slice(&raw[count..]);
                    // A mutable i64 that is 0.
                    (0..marks.globals()).for_each(|_| content.extend([I64, 1, I64_CONST, 0, END]));
                }
                EXPORTS => {
                    content.extend(leb(self.exports.len() as u64));
                    for (name, kind, index) in &self.exports {
                        content.extend(leb(name.len() as u64));
                        content.extend_from_slice(name.as_bytes());
                        content.push(kind_byte(*kind)?);
                        content.extend(leb(renumbered(name, *index).into()));
                    }
                }
                CODE => {
                    content.extend(leb(bodies.len() as u64));
                    for body in bodies {
                        content.extend(leb(body.len() as u64));
                        content.extend_from_slice(body);
                    }
                }
                _ => content.extend_from_slice(raw),
            }
            section(id, &content, &mut written);
        }
        Ok(written)
    }
}

fn kind_byte(kind: ExternalKind) -> Result<u8, String> {
    match kind {
        ExternalKind::Func => Ok(0),
        ExternalKind::Table => Ok(1),
        ExternalKind::Memory => Ok(2),
        ExternalKind::Global => Ok(3),
        _ => Err("it exports what this does not know".to_owned()),
    }
}

const I32: u8 = 0x7f;
const I64: u8 = 0x7e;
const END: u8 = 0x0b;
const CALL: u8 = 0x10;
const LOCAL_GET: u8 = 0x20;
const LOCAL_SET: u8 = 0x21;
const GLOBAL_GET: u8 = 0x23;
const GLOBAL_SET: u8 = 0x24;
const I32_STORE: u8 = 0x36;
const I64_STORE: u8 = 0x37;
const I32_STORE8: u8 = 0x3a;
const MEMORY_GROW: u8 = 0x40;
const I32_CONST: u8 = 0x41;
const I64_CONST: u8 = 0x42;
const I32_MUL: u8 = 0x6c;
const I64_OR: u8 = 0x84;

/// Gives every block its bit.
struct Marks {
    first_global: u32,
    blocks: u32,
}

impl Marks {
    fn globals(&self) -> u32 {
        self.blocks.div_ceil(BITS)
    }

    /// The code that sets the next block's bit: it leaves the stack as it was.
    fn mark(&mut self, code: &mut Vec<u8>) {
        let global = leb((self.first_global + self.blocks / BITS).into());
        code.push(GLOBAL_GET);
        code.extend_from_slice(&global);
        code.push(I64_CONST);
        code.extend(signed_leb((1u64 << (self.blocks % BITS)).cast_signed()));
        code.extend([I64_OR, GLOBAL_SET]);
        code.extend_from_slice(&global);
        self.blocks += 1;
    }

    fn marked(&mut self, bytes: &[u8], body: &FunctionBody<'_>) -> wasmparser::Result<Vec<u8>> {
        let mut operators = body.get_operators_reader()?.into_iter_with_offsets().peekable();
        let range = body.range();
        let (start, end) = (range.start, range.end);
        let first = match operators.peek() {
            Some(Ok((_, at))) => *at,
            _ => end,
        };
        let mut code = bytes[start..first].to_vec();
        self.mark(&mut code);
        while let Some(operator) = operators.next() {
            let (operator, at) = operator?;
            let next = match operators.peek() {
                Some(Ok((_, next))) => *next,
                _ => end,
            };
            code.extend_from_slice(&bytes[at..next]);
            let begins = matches!(
                operator,
                Operator::If { .. }
                    | Operator::Else
                    | Operator::Loop { .. }
                    | Operator::End
                    | Operator::BrIf { .. }
            );
            if begins && next < end {
                self.mark(&mut code);
            }
        }
        Ok(code)
    }

    /// The body of a function that calls `resolve` and puts the bits into its answer.
    fn telling(&self, resolve: u32, parameters: usize) -> Vec<u8> {
        const ANSWER_VALUE: u32 = 4;
        let (answer, bits) = (parameters as u32, parameters as u32 + 1);
        let bytes = self.globals() * (BITS / 8);
        let mut code = vec![1, 2, I32];
        let op = |op: u8, operand: u32, code: &mut Vec<u8>| {
            code.push(op);
            code.extend(leb(operand.into()));
        };
        for parameter in 0..answer {
            op(LOCAL_GET, parameter, &mut code);
        }
        op(CALL, resolve, &mut code);
        op(LOCAL_SET, answer, &mut code);
        let number = |n: u32, code: &mut Vec<u8>| {
            code.push(I32_CONST);
            code.extend(signed_leb(n.into()));
        };
        // Fresh pages, which nobody else uses.
        number(bytes.div_ceil(PAGE_BYTES), &mut code);
        code.extend([MEMORY_GROW, 0]);
        number(PAGE_BYTES, &mut code);
        code.push(I32_MUL);
        op(LOCAL_SET, bits, &mut code);
        for global in 0..self.globals() {
            op(LOCAL_GET, bits, &mut code);
            op(GLOBAL_GET, self.first_global + global, &mut code);
            code.extend([I64_STORE, 3]);
            code.extend(leb((global * (BITS / 8)).into()));
        }
        // Ok, with a value, without a note and without events.
        for at in [0, ANSWER_VALUE, 16] {
            op(LOCAL_GET, answer, &mut code);
            number(0, &mut code);
            code.extend([I32_STORE8, 0, at as u8]);
        }
        let store = |at: u8, code: &mut Vec<u8>| code.extend([I32_STORE, 2, at]);
        op(LOCAL_GET, answer, &mut code);
        op(LOCAL_GET, bits, &mut code);
        store(8, &mut code);
        for (at, n) in [(12, bytes), (28, 0), (32, 0)] {
            op(LOCAL_GET, answer, &mut code);
            number(n, &mut code);
            store(at, &mut code);
        }
        op(LOCAL_GET, answer, &mut code);
        code.push(END);
        code
    }
}

fn section(id: u8, content: &[u8], written: &mut Vec<u8>) {
    written.push(id);
    written.extend(leb(content.len() as u64));
    written.extend_from_slice(content);
}

fn leb(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

fn signed_leb(mut number: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        let is_last = number == 0 && low & 0x40 == 0 || number == -1 && low & 0x40 != 0;
        if is_last {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
