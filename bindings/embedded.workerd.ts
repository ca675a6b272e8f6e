// In place of embedded.ts in the bundle for Cloudflare's runtime, which compiles no bytes at run time: it brings these as modules.
import relaxed from "./relaxed.wasm";
import simd128 from "./simd128.wasm";

export const embedded: typeof import("./embedded.js").embedded = (build) => (build === "relaxed" ? relaxed : simd128);
