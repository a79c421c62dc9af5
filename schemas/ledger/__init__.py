"""The ledger's vocabulary: keys, fields, periods, scopes, accuracy, packed inventory."""
