import ArgumentParser
import Logging
@main struct Mailsync: AsyncParsableCommand { func run() async throws { print("x") } }
