"""Each attack in its plain form: one image, one question at a time, written from its paper to be compared with."""
