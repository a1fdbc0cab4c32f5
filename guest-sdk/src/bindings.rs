//! The bindings generated from `wit/merge.wit`: one world for every module, one for each option,
//! because a world has no optional exports. `wit-component` unites those whose macro a module
//! calls. All share the types of the first.

wit_bindgen::generate!({
    path: "../wit",
    world: "module",
    pub_export_macro: true,
    export_macro_name: "export_module",
    additional_derives: [PartialEq, Eq],
});

/// Bindings of the option `sampler`.
pub mod sampler {
    wit_bindgen::generate!({
        path: "../wit",
        world: "with-sampler",
        pub_export_macro: true,
        export_macro_name: "export_sampler",
        with: { "stator:merge/types@0.1.0": crate::bindings::stator::merge::types },
    });
}

/// Bindings of the option `invariant`.
pub mod invariant {
    wit_bindgen::generate!({
        path: "../wit",
        world: "with-invariant",
        pub_export_macro: true,
        export_macro_name: "export_invariant",
        with: { "stator:merge/types@0.1.0": crate::bindings::stator::merge::types },
    });
}

/// Bindings of the option `validator`.
pub mod validator {
    wit_bindgen::generate!({
        path: "../wit",
        world: "with-validator",
        pub_export_macro: true,
        export_macro_name: "export_validator",
        with: { "stator:merge/types@0.1.0": crate::bindings::stator::merge::types },
    });
}

/// Bindings of the option `migration`.
pub mod migration {
    wit_bindgen::generate!({
        path: "../wit",
        world: "with-migration",
        pub_export_macro: true,
        export_macro_name: "export_migration",
        with: { "stator:merge/types@0.1.0": crate::bindings::stator::merge::types },
    });
}
