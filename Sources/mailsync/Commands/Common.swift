import ArgumentParser

/// What every command takes.
struct CommonOptions: ParsableArguments {
    @Option(name: .long, help: ArgumentHelp("The configuration file.", valueName: "file"))
    var config = Configuration.defaultFile

    func read() throws -> Configuration { try Configuration(reading: config) }

    /// Of the store that the configuration names.
    func readState() throws -> StateDirectory {
        let configuration = try read()
        let state = StateDirectory(path: configuration.state)
        try state.check(store: configuration.store, in: configuration.file)
        return state
    }
}
