// swift-tools-version: 6.2
import PackageDescription

/// Where libFuzzer is (libclang_rt.fuzzer_no_main), when it is the fuzzer that is to be built: `make fuzz-smoke`.
let fuzzer = Context.environment["MAILSYNC_FUZZ"]

let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
]
let instrumented = strict + (fuzzer == nil ? [] : [.unsafeFlags(["-sanitize=fuzzer"])])

/// One library of the house; `below` is all it may import (ARCHITECTURE.md, "Walls").
func layer(_ name: String, on below: Target.Dependency...) -> Target {
    .target(name: name, dependencies: below, swiftSettings: instrumented)
}

/// The tests of one library, mirrored by path.
func tests(_ name: String, of below: Target.Dependency...) -> Target {
    .testTarget(name: name + "Tests", dependencies: below, swiftSettings: strict)
}

let nio: Target.Dependency = .product(name: "NIOCore", package: "swift-nio")
let nioPosix: Target.Dependency = .product(name: "NIOPosix", package: "swift-nio")
let nioTLS: Target.Dependency = .product(name: "NIOSSL", package: "swift-nio-ssl")
let nioTLSEvents: Target.Dependency = .product(name: "NIOTLS", package: "swift-nio")
let crypto: Target.Dependency = .product(name: "Crypto", package: "swift-crypto")
let x509: Target.Dependency = .product(name: "X509", package: "swift-certificates")
let grdb: Target.Dependency = .product(name: "GRDB", package: "GRDB.swift")
let sqlite: Target.Dependency = .product(name: "GRDBSQLite", package: "GRDB.swift")
let log: Target.Dependency = .product(name: "Logging", package: "swift-log")
let argumentParser: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")

let package = Package(
    name: "mailsync",
    products: [.executable(name: "mailsync", targets: ["mailsync"])],
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/apple/swift-certificates", from: "1.21.1"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
    ],
    targets: [
        // C: headers and link lines, or one-line wrappers of calls that Glibc's module lacks.
        .systemLibrary(name: "CLibrsync", providers: [.apt(["librsync-dev"])]),
        .systemLibrary(name: "CLZ4", pkgConfig: "liblz4", providers: [.apt(["liblz4-dev"])]),
        .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
        .target(name: "CKernel"),
        .target(name: "CDigest", cSettings: [.unsafeFlags(["-O3"])]),

        // Floor 0
        layer("Linux", on: "CKernel"),
        layer("Digests", on: "CDigest", "CZlib", crypto),
        layer("Formats", on: "Digests"),

        // Floor 1
        layer("Delta", on: "CLibrsync", "CLZ4", "Digests", "Formats"),
        layer("Store", on: "Linux", "Formats", "Digests"),
        layer(
            "ReplicationLog", on: "Linux", "Formats", "Digests", nio, nioPosix, nioTLS, nioTLSEvents, crypto, x509, log),

        // Floor 2
        layer("Primary", on: "Linux", "Formats", "Digests", "Delta", "Store", "ReplicationLog", grdb, sqlite, log),
        layer("Replica", on: "Linux", "Formats", "Digests", "Delta", "Store", "ReplicationLog", log),

        // Floor 3
        .executableTarget(
            name: "mailsync",
            dependencies: [
                "Linux", "Formats", "Digests", "Delta", "Store", "ReplicationLog", "Primary", "Replica", log,
                argumentParser,
            ],
            swiftSettings: strict),

        // Both ends in one process, on made-up time, disks and a made-up network: `make simulate`.
        .executableTarget(
            name: "mailsync-sim",
            dependencies: [
                "Linux", "Formats", "Digests", "Delta", "Store", "ReplicationLog", "Primary", "Replica", "Seeded", log,
            ],
            path: "Tests/Simulation/Program", swiftSettings: strict),

        // Chance that comes again, for tests and simulation.
        .target(name: "Seeded", path: "Tests/Seeded", swiftSettings: strict),
        // Directories for tests.
        .target(name: "Scratch", dependencies: ["Linux"], path: "Tests/Scratch", swiftSettings: strict),

        tests("Tidy"),
        tests("Digests", of: "Digests"),
        tests("Linux", of: "Linux", "Scratch"),
        tests("Formats", of: "Formats", "Digests", "Seeded"),
        tests("Delta", of: "Delta", "Digests", "Formats", "Seeded"),
        tests("Store", of: "Store", "Formats", "Linux", "Digests", "Scratch"),
        tests("ReplicationLog", of: "ReplicationLog", "Formats", "Digests", "Linux", "Scratch", log),
        tests(
            "Primary",
            of: "Primary", "ReplicationLog", "Store", "Delta", "Formats", "Digests", "Linux", "Seeded", "Scratch", log),
        tests(
            "Replica",
            of: "Replica", "ReplicationLog", "Store", "Delta", "Formats", "Digests", "Linux", "Seeded", "Scratch", log),
    ]
)

if let fuzzer {
    package.targets += [
        .systemLibrary(name: "CFuzzer", path: "Tests/Fuzz/CFuzzer"),
        .executableTarget(
            name: "mailsync-fuzz",
            dependencies: ["CFuzzer", "Linux", "Formats", "Digests", "Delta", "Store", "ReplicationLog"],
            path: "Tests/Fuzz/Program", swiftSettings: instrumented,
            linkerSettings: [.unsafeFlags(["-Xlinker", fuzzer]), .linkedLibrary("stdc++")]),
    ]
}
