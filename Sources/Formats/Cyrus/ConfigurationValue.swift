/// Values that are more than text, in imapd.conf's forms.
extension KeyValueFile {
    /// `1 yes on true t` or `0 no off false f`, by their first letters as Cyrus does (config_parse_switch).
    package func flag(_ key: String) throws(ConfigurationError) -> Bool? {
        try value(key, "neither yes nor no") { text in
            switch text.utf8.first {
            case UInt8(ascii: "1"), UInt8(ascii: "y"), UInt8(ascii: "t"): true
            case UInt8(ascii: "0"), UInt8(ascii: "n"), UInt8(ascii: "f"): false
            case UInt8(ascii: "o"): text.hasPrefix("on") ? true : text.hasPrefix("of") ? false : nil
            default: nil
            }
        }
    }

    package func integer(_ key: String) throws(ConfigurationError) -> Int? {
        try value(key, "not a number") { Int($0) }
    }

    /// `1h30m`, `10s`, `7d`; a bare number is in `unit` (config_parseduration). `ms` is mailsync's own.
    package func duration(_ key: String, unit: DurationUnit) throws(ConfigurationError) -> Duration? {
        try value(key, "not a duration such as 90s or 1h30m") { Self.duration($0, unit: unit) }
    }

    /// `512`, `64k`, `16M`, `2G`, `1T`: powers of 1024.
    package func byteCount(_ key: String) throws(ConfigurationError) -> Int? {
        try value(key, "not a number of bytes such as 512M") { Self.byteCount($0) }
    }

    package enum DurationUnit: Sendable { case days, hours, minutes, seconds, milliseconds }

    private func value<Value>(
        _ key: String, _ why: String, _ read: (String) -> Value?
    ) throws(ConfigurationError) -> Value? {
        guard let entry = entry(key) else { return nil }
        guard let value = read(entry.value) else {
            throw ConfigurationError(entry.source, "\(key): \(entry.value): \(why)")
        }
        return value
    }

    private static func duration(_ text: String, unit: DurationUnit) -> Duration? {
        var rest = text.utf8[...]
        var total: Int64 = 0
        while !rest.isEmpty {
            let digits = rest.prefix { $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") }
            let letters = rest[digits.endIndex...].prefix { $0 >= UInt8(ascii: "a") && $0 <= UInt8(ascii: "z") }
            guard let number = Int64(String(digits) ?? ""), number >= 0 else { return nil }
            guard let unit = letters.isEmpty ? unit : Self.unit(String(letters) ?? "") else { return nil }
            let (product, tooLong) = number.multipliedReportingOverflow(by: milliseconds(unit))
            let (sum, overflow) = total.addingReportingOverflow(product)
            guard !tooLong, !overflow else { return nil }
            total = sum
            rest = rest[letters.endIndex...]
        }
        return .milliseconds(total)
    }

    private static func unit(_ letters: String) -> DurationUnit? {
        ["d": .days, "h": .hours, "m": .minutes, "s": .seconds, "ms": .milliseconds][letters]
    }

    private static func milliseconds(_ unit: DurationUnit) -> Int64 {
        switch unit {
        case .days: 86_400_000
        case .hours: 3_600_000
        case .minutes: 60_000
        case .seconds: 1000
        case .milliseconds: 1
        }
    }

    private static func byteCount(_ text: String) -> Int? {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        let shifts: [String: Int] = ["": 0, "k": 10, "m": 20, "g": 30, "t": 40]
        guard let number = Int(digits), let shift = shifts[text.dropFirst(digits.count).lowercased()] else {
            return nil
        }
        let (product, overflow) = number.multipliedReportingOverflow(by: 1 << shift)
        return overflow ? nil : product
    }
}
