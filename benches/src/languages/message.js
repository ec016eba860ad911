// Sends and receives COUNT messages of SIZE bytes by way of PATH, as a file. Prints the microseconds that one takes.
const fs = require("fs");

const [kind, path, count, size] = [process.argv[2], process.argv[3], Number(process.argv[4]), Number(process.argv[5])];
const message = Buffer.alloc(size, "m");
const buffer = Buffer.alloc(size);
// A FIFO is lost when nobody has it open, and has no end while somebody has.
if (kind === "fifo") fs.openSync(path, "r+");

function receive() {
  if (kind !== "fifo") return fs.readFileSync(path);
  const file = fs.openSync(path, "r");
  const length = fs.readSync(file, buffer, 0, size, null);
  fs.closeSync(file);
  return buffer.subarray(0, length);
}

function many(count) {
  const start = process.hrtime.bigint();
  for (let i = 0; i < count; i++) {
    fs.writeFileSync(path, message);
    if (!receive().equals(message)) throw new Error("another message");
  }
  return Number(process.hrtime.bigint() - start) / 1e3 / count;
}

many(Math.floor(count / 10) + 1);
console.log(many(count));
