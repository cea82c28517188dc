import Foundation

/// Where a path that somebody gave leads to, past symbolic links.
enum RealPath {
    /// The one of `places` that `path` is, or is in.
    static func place(of path: String, among places: [String]) -> String? {
        let real = real(path)
        return places.first { place in
            let other = Self.real(place)
            return real == other || real.hasPrefix(other + "/")
        }
    }

    /// Of what there is of it; what is yet to be made follows as it is written.
    private static func real(_ path: String) -> String {
        let url = URL(filePath: path).standardizedFileURL
        guard url.path != "/", !FileManager.default.fileExists(atPath: url.path) else {
            return url.resolvingSymlinksInPath().path
        }
        return real(url.deletingLastPathComponent().path) + "/" + url.lastPathComponent
    }
}
