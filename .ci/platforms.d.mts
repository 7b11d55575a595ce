export interface Platform {
  triple: string;
  os: string;
  cpu: string;
  libc: "glibc" | "musl" | undefined;
  suffix: string;
  package: string;
  file: string;
}
export declare const root: string;
export declare const manifest: { name: string; version: string; files: string[]; [key: string]: unknown };
export declare const platforms: Platform[];
export declare function platformOf(triple: string): Platform;
export declare function thisPlatform(): Platform | undefined;
export declare function platformFiles(): Record<string, string>;
