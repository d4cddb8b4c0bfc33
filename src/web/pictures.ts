// Pictures: which files a page may show, by their content and never by their name. What a
// browser would run, such as SVG, is none of them.

// A picture of more pixels takes more memory than a page should give it.
const PIXELS_MAX = 50_000_000;

interface Picture {
  readonly type: string;
  readonly width: number;
  readonly height: number;
}

/** The media type of a picture that may be shown; or why it may not. */
export function typeOf(bytes: Uint8Array): { type: string } | { why: string } {
  const picture = png(bytes) ?? jpeg(bytes) ?? gif(bytes) ?? webp(bytes);
  if (!picture) return { why: "it is no PNG, JPEG, GIF or WebP picture" };
  if (picture.width * picture.height > PIXELS_MAX) return { why: "the picture is too large to show" };
  return { type: picture.type };
}

/** Whether a name promises a picture, which is worth an offer to show it. */
export function isPictureName(name: string): boolean {
  return /\.(png|jpe?g|gif|webp)$/i.test(name);
}

function startsWith(bytes: Uint8Array, at: number, text: string): boolean {
  return [...text].every((it, index) => bytes[at + index] === it.charCodeAt(0));
}

function png(bytes: Uint8Array): Picture | undefined {
  if (!startsWith(bytes, 0, "\x89PNG\r\n\x1a\n") || bytes.length < 24) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return { type: "image/png", width: view.getUint32(16), height: view.getUint32(20) };
}

function gif(bytes: Uint8Array): Picture | undefined {
  if (!/^GIF8[79]a/.test(String.fromCharCode(...bytes.subarray(0, 6))) || bytes.length < 10)
    return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const [width, height] = [view.getUint16(6, true), view.getUint16(8, true)];
  return { type: "image/gif", width, height };
}

function webp(bytes: Uint8Array): Picture | undefined {
  if (!startsWith(bytes, 0, "RIFF") || !startsWith(bytes, 8, "WEBP")) return undefined;
  if (bytes.length < 30) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const type = "image/webp";
  if (startsWith(bytes, 12, "VP8X")) {
    const at = (from: number) => 1 + (view.getUint32(from - 1, true) >>> 8);
    return { type, width: at(24), height: at(27) };
  }
  if (startsWith(bytes, 12, "VP8L")) {
    const bits = view.getUint32(21, true);
    return { type, width: 1 + (bits & 0x3fff), height: 1 + ((bits >>> 14) & 0x3fff) };
  }
  const at = (from: number) => view.getUint16(from, true) & 0x3fff;
  return { type, width: at(26), height: at(28) };
}

function jpeg(bytes: Uint8Array): Picture | undefined {
  if (!startsWith(bytes, 0, "\xff\xd8\xff")) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  // Segments, up to the one that says how large it is.
  for (let at = 2; at + 9 <= bytes.length; at += 2 + view.getUint16(at + 2)) {
    const marker = view.getUint8(at + 1);
    if (view.getUint8(at) !== 0xff || marker === 0xda) return undefined;
    const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (isFrame)
      return { type: "image/jpeg", width: view.getUint16(at + 7), height: view.getUint16(at + 5) };
  }
  return undefined;
}
