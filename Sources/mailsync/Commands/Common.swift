import ArgumentParser

/// What every command takes.
struct CommonOptions: ParsableArguments {
    @Option(name: .long, help: ArgumentHelp("The configuration file.", valueName: "file"))
    var config = Configuration.defaultFile

    func read() throws -> Configuration { try Configuration(reading: config) }
}
