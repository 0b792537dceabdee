"""The kinds of adapters: names, shapes, product, how they sum, PEFT names. One file each."""
