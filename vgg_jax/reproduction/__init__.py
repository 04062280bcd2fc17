"""The paper's tables again: their rows as data, what our workdirs give for them, and the claims of section 4."""
