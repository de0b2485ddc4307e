// Files that the page gives back, made without a library: grey PNG images, and ZIP archives that only hold.

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

/** CRC-32 of bytes, as PNG and ZIP want it. */
function crc32(bytes) {
  let value = 0xffffffff;
  for (let index = 0; index < bytes.length; index++) value = TABLE[(value ^ bytes[index]) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

async function deflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function chunk(name, content) {
  const body = new Uint8Array(content.length + 4);
  body.set(new TextEncoder().encode(name));
  body.set(content, 4);
  const [head, tail] = [new DataView(new ArrayBuffer(4)), new DataView(new ArrayBuffer(4))];
  head.setUint32(0, content.length);
  tail.setUint32(0, crc32(body));
  return [head.buffer, body, tail.buffer];
}

/** A PNG file of `pixels`, Uint8Array of width * height grey levels, 8 bits; a canvas would write colours. */
export async function greyPng(pixels, width, height) {
  const rows = new Uint8Array((width + 1) * height); // each row begins with its filter: none
  for (let row = 0; row < height; row++) rows.set(pixels.subarray(row * width, (row + 1) * width), row * (width + 1) + 1);
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, width);
  header.setUint32(4, height);
  header.setUint8(8, 8); // bits; the zeros behind: grey, deflate, the usual filters, not interlaced
  const parts = [
    Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10),
    ...chunk("IHDR", new Uint8Array(header.buffer)),
    ...chunk("IDAT", await deflated(rows)),
    ...chunk("IEND", new Uint8Array(0)),
  ];
  return new Blob(parts, { type: "image/png" });
}

/** A ZIP archive of blobs by name, stored as they are: PNG files do not get smaller. */
export async function zipArchive(entries) {
  const [parts, directory] = [[], []];
  let offset = 0;
  for (const [name, blob] of entries) {
    const content = new Uint8Array(await blob.arrayBuffer());
    const encoded = new TextEncoder().encode(name);
    const shared = zipFields(crc32(content), content.length, encoded.length);
    const local = [Uint8Array.of(80, 75, 3, 4), shared, encoded];
    const central = new DataView(new ArrayBuffer(14)); // no comment, first disk, no attributes, and where the entry is
    central.setUint32(10, offset, true);
    directory.push(Uint8Array.of(80, 75, 1, 2, 20, 0), shared, central.buffer, encoded);
    parts.push(...local, content);
    offset += 4 + shared.byteLength + encoded.length + content.length;
  }
  const size = directory.reduce((sum, part) => sum + part.byteLength, 0);
  const end = new DataView(new ArrayBuffer(18));
  end.setUint16(4, entries.length, true);
  end.setUint16(6, entries.length, true);
  end.setUint32(8, size, true);
  end.setUint32(12, offset, true);
  return new Blob([...parts, ...directory, Uint8Array.of(80, 75, 5, 6), end.buffer], { type: "application/zip" });
}

/** What an entry's header and its line in the table of contents share: version 2.0, UTF-8 name, stored, 1 January 1980. */
function zipFields(crc, length, nameLength) {
  const view = new DataView(new ArrayBuffer(26));
  const fields = [[0, 20], [2, 0x0800], [4, 0], [6, 0], [8, 0x21], [22, nameLength], [24, 0]];
  for (const [at, value] of fields) view.setUint16(at, value, true);
  view.setUint32(10, crc, true);
  view.setUint32(14, length, true);
  view.setUint32(18, length, true);
  return view.buffer;
}
